"""A camera with depth: panoptic labels, a labelled point cloud, and boxes in space.

    ros2 launch rt_panoptic_ros rgbd.launch.py \
        image:=/camera/color/image_raw depth:=/camera/aligned_depth_to_color/image_raw \
        camera_info:=/camera/color/camera_info
"""

from launch.action import Action

from launch import LaunchContext, LaunchDescription
from rt_panoptic_ros import launch_support as support


def start(context: LaunchContext) -> list[Action]:
    namespace = support.namespace(context)
    topics = {name: support.text(context, name) for name in ("image", "depth", "camera_info")}
    parameters = {
        "depth.enabled": True,
        "depth.sync": support.text(context, "sync"),
        "points.organized": support.is_true(context, "organized"),
    }
    return [
        *support.fastdds_actions(context),
        *support.source_node(context, namespace=namespace, remappings=topics),
        support.panoptic_node(
            context, namespace=namespace, remappings=topics, parameters=parameters
        ),
        *support.rviz_node(context, namespace=namespace),
    ]


def generate_launch_description() -> LaunchDescription:
    return support.description(
        __file__,
        [
            support.argument("image", "/camera/image", "Image topic, sensor_msgs/Image."),
            support.argument(
                "depth",
                "/camera/depth",
                "Depth topic, 16UC1 millimetres or 32FC1 metres, pixel for pixel with the image.",
            ),
            support.argument("camera_info", "/camera/camera_info", "camera_info of the image."),
            support.argument(
                "sync",
                "exact",
                "exact: image and depth of one stamp. approximate: within depth.tolerance.",
                ("exact", "approximate"),
            ),
            support.flag(
                "organized", False, "A cloud of height x width, NaN where there is no depth."
            ),
            support.argument("namespace", "", "Namespace of the node and of its results."),
            *support.model_arguments(),
            *support.source_arguments(),
            support.rviz_argument(),
            *support.process_arguments(),
        ],
        start,
    )
