"""Reading, writing and evaluating rosbag2 recordings, without ROS."""
