"""The views of RViz and Foxglove, and the Fast DDS profile, name what there is."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

from rt_panoptic_ros.fastdds import VARIABLES, profile_environment, profile_path

CONFIG = Path(__file__).resolve().parents[2] / "config"
TOPICS = {
    f"/rt_panoptic/{topic}"
    for topic in (
        *(
            "semantic",
            "instance",
            "overlay",
            "overlay/compressed",
            "instances",
            "points",
            "markers",
        ),
    )
}


def test_rviz_shows_topics_that_there_are():
    view = yaml.safe_load((CONFIG / "panoptic.rviz").read_text())
    displays = view["Visualization Manager"]["Displays"]
    shown = {display["Topic"]["Value"] for display in displays}
    assert shown <= TOPICS
    assert {f"/rt_panoptic/{t}" for t in ("overlay", "semantic", "points", "markers")} <= shown


def test_foxglove_shows_topics_that_there_are_and_lays_out_every_panel():
    layout = json.loads((CONFIG / "foxglove_layout.json").read_text())
    panels = layout["configById"]
    images = {panel["imageMode"]["imageTopic"] for panel in panels.values() if "imageMode" in panel}
    assert images | set(panels["3D!space"]["topics"]) <= TOPICS

    def leaves(node):
        return [node] if isinstance(node, str) else leaves(node["first"]) + leaves(node["second"])

    assert sorted(leaves(layout["layout"])) == sorted(panels)


def test_the_fast_dds_profile_holds_a_large_segment_beside_udp():
    root = ElementTree.parse(profile_path()).getroot()
    text = {element.tag.rpartition("}")[2]: element.text for element in root.iter()}
    # A 1920x1080 rgb8 image and the two label images of it, several times over.
    assert int(text["segment_size"]) >= 5 * (1920 * 1080 * (3 + 1 + 2))
    assert int(text["maxMessageSize"]) > 1920 * 1080 * 3
    assert text["useBuiltinTransports"] == "false"
    kinds = [e.text for e in root.iter() if e.tag.endswith("}type")]
    assert kinds == ["SHM", "UDPv4"]


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_profile_that_the_user_set_stays(monkeypatch, variable):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert profile_environment() == dict.fromkeys(VARIABLES, str(profile_path()))
    monkeypatch.setitem(os.environ, variable, "/own.xml")
    assert profile_environment() == {}
