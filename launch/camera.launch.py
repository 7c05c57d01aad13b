"""One camera: its images to panoptic labels.

ros2 launch rt_panoptic_ros camera.launch.py image:=/camera/image_raw
ros2 launch rt_panoptic_ros camera.launch.py source:=generated rviz:=true
"""

from launch.action import Action

from launch import LaunchContext, LaunchDescription
from rt_panoptic_ros import launch_support as support


def start(context: LaunchContext) -> list[Action]:
    namespace = support.namespace(context)
    compressed = support.is_true(context, "compressed")
    topics = support.topics_of_camera(support.text(context, "image"))
    parameters = {"input.transport": "compressed"} if compressed else {}
    return [
        *support.fastdds_actions(context),
        *support.source_node(
            context, namespace=namespace, remappings=topics, compressed=compressed
        ),
        support.panoptic_node(
            context, namespace=namespace, remappings=topics, parameters=parameters
        ),
        *support.rviz_node(context, namespace=namespace),
    ]


def generate_launch_description() -> LaunchDescription:
    return support.description(
        __file__,
        [
            support.argument(
                "image", "/camera/image", "Image topic; with compressed its base name."
            ),
            support.flag("compressed", False, "Subscribe IMAGE/compressed (jpeg, png) instead."),
            support.argument("namespace", "", "Namespace of the node and of its results."),
            *support.model_arguments(),
            *support.source_arguments(),
            support.rviz_argument(),
            *support.process_arguments(),
        ],
        start,
    )
