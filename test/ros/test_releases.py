"""The node on a ROS 2 release that is older than the one at hand, as far as rclpy shows."""

import pytest

pytest.importorskip(
    "rt_panoptic_ros.msg", reason="the messages are not built: colcon build, source"
)

from sensor_msgs.msg import Image

from rt_panoptic_ros.messages import to_image
from rt_panoptic_ros.msg import PanopticInstanceArray


@pytest.fixture(scope="module")
def node(start, probe):
    running = start(
        *("-r", "image:=/camera/image", "-p", "diagnostics.period:=0.1"), AS_ON_HUMBLE="1"
    )
    probe.wait_active()
    return running


def test_images_are_answered_and_parameters_take_effect(node, probe, picture):
    instances = probe.subscribe(PanopticInstanceArray, "/rt_panoptic/instances")
    assert len(probe.ask(to_image(Image().header, picture()), instances).instances) == 1
    assert probe.set_parameter("thresholds.score", 0.75).successful
    # The stand-in for an engine gives the threshold that it was told as the score.
    assert probe.ask(to_image(Image().header, picture()), instances).instances[
        0
    ].score == pytest.approx(0.75)
    refused = probe.set_parameter("engine", "openvino")
    assert not refused.successful
    assert "unconfigured" in refused.reason
    assert probe.get_parameter("engine") == "auto"


def test_without_events_of_matches_subscribers_are_counted(node, probe, picture, diagnosis):
    probe.unsubscribe_all()
    seen = diagnosis()
    publisher = probe.publisher(Image, "/camera/image")
    message = to_image(Image().header, picture())

    def dropped():
        publisher.publish(message)
        return seen.count("input", "dropped: no subscriber") >= 3

    probe.wait(dropped, "images that nobody wants")
    instances = probe.subscribe(PanopticInstanceArray, "/rt_panoptic/instances")
    probe.ask(to_image(Image().header, picture()), instances)
