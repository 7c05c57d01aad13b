"""From a generated street to labels with the shipped default model: nothing in between is a stand-in."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip(
    "rt_panoptic_ros.msg", reason="the messages are not built: colcon build, source"
)

from sensor_msgs.msg import Image

from rt_panoptic_core.checkpoint import DEFAULT_MODEL, shipped_models
from rt_panoptic_ros.msg import PanopticInstanceArray

if DEFAULT_MODEL not in shipped_models():
    pytest.skip(
        f"the default model {DEFAULT_MODEL!r} is not in this checkout", allow_module_level=True
    )


def test_a_generated_street_is_understood(start, probe):
    # PyTorch builds nothing: the test is about the node, not about the engines' compilers.
    start(
        "-r",
        "image:=/street",
        "-p",
        "engine:=pytorch",
        "-p",
        "image_size:=256x512",
        module="rt_panoptic_ros.panoptic_node",
    )
    start(
        *(
            "-r",
            "image:=/street",
            "-p",
            "source:=generated",
            "-p",
            "size:=256x512",
            "-p",
            "rate:=2.0",
        ),
        module="rt_panoptic_ros.image_source",
    )
    probe.wait_active()
    semantic = probe.subscribe(Image, "/rt_panoptic/semantic")
    instance = probe.subscribe(Image, "/rt_panoptic/instance")
    instances = probe.subscribe(PanopticInstanceArray, "/rt_panoptic/instances")

    def complete():
        stamps = [{str(m.header.stamp) for m in topic} for topic in (semantic, instance, instances)]
        return set.intersection(*stamps)

    stamp = probe.wait(complete, "a complete result", 60).pop()
    labels, ids, found = (
        next(m for m in topic if str(m.header.stamp) == stamp)
        for topic in (semantic, instance, instances)
    )
    classes = np.frombuffer(labels.data, np.uint8).reshape(256, 512)
    numbers = np.frombuffer(ids.data, np.uint16).reshape(256, 512)
    road, sky = 0, 10
    # A street: road at the bottom, sky at the top, over a good part of the width.
    assert (classes[-60:] == road).mean() > 0.3
    assert (classes[:20] == sky).mean() > 0.2
    assert sorted(np.unique(numbers[numbers > 0])) == sorted(i.instance_id for i in found.instances)
    for one in found.instances:
        mask = numbers == one.instance_id
        assert mask.sum() == one.area
        assert (classes[mask] == one.class_id).all()
