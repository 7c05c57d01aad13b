"""Several cameras, each with a node of its own in its own namespace.

    ros2 launch rt_panoptic_ros multi_camera.launch.py cameras:=front,left,right image:=image_raw

subscribes /front/image_raw and so on, and answers on /front/rt_panoptic/semantic and so on.
"""

from launch.action import Action

from launch import LaunchContext, LaunchDescription
from rt_panoptic_ros import launch_support as support


def start(context: LaunchContext) -> list[Action]:
    cameras = support.camera_names(context)
    compressed = support.is_true(context, "compressed")
    parameters = {"input.transport": "compressed"} if compressed else {}
    actions: list[Action] = [*support.fastdds_actions(context)]
    for seed, camera in enumerate(cameras):
        # A relative name is in the camera's namespace, which is the node's.
        topics = support.topics_of_camera(support.text(context, "image"))
        actions += support.source_node(
            context,
            namespace=camera,
            remappings=topics,
            compressed=compressed,
            seed=seed,
            frame_id=f"{camera.replace('/', '_')}_camera_optical_frame",
        )
        actions.append(
            support.panoptic_node(
                context, namespace=camera, remappings=topics, parameters=parameters
            )
        )
    return [*actions, *support.rviz_node(context, namespace=cameras[0])]


def generate_launch_description() -> LaunchDescription:
    return support.description(
        __file__,
        [
            support.argument(
                "cameras", "front,left,right", "Names of the cameras, with commas between."
            ),
            support.argument("image", "image", "Image topic in each camera's namespace."),
            support.flag("compressed", False, "Subscribe IMAGE/compressed (jpeg, png) instead."),
            *support.model_arguments(),
            *support.source_arguments(),
            support.rviz_argument(),
            *support.process_arguments(),
        ],
        start,
    )
