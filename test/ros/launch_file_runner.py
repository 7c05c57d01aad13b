"""``python -m launch_file_runner FILE NAME:=VALUE …``: ``ros2 launch`` for where it is not installed."""

import sys

from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

from launch import LaunchDescription, LaunchService

if __name__ == "__main__":
    path, *words = sys.argv[1:]
    arguments = [tuple(word.split(":=", 1)) for word in words]
    service = LaunchService(argv=words)
    service.include_launch_description(
        LaunchDescription(
            [
                IncludeLaunchDescription(
                    PythonLaunchDescriptionSource(path), launch_arguments=arguments
                )
            ]
        )
    )
    sys.exit(service.run())
