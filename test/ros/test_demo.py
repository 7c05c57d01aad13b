"""The demo: what it takes as a source, what it says when something is wrong, and a whole run."""

from __future__ import annotations

import re
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from rt_panoptic_core.bags.messages import IMAGE, INSTANCES, header, image_message
from rt_panoptic_core.bags.writer import BagWriter
from rt_panoptic_ros import demo


@pytest.fixture(scope="module")
def model(save_small_model):
    return save_small_model()


def run(*arguments, timeout=120):
    return subprocess.run(
        [sys.executable, "-m", "rt_panoptic_ros.demo", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.fixture
def folder(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(4):
        picture = np.full((64, 96, 3), 50 * number, np.uint8)
        cv2.imwrite(str(images / f"{number}.png"), picture)
    return images


def test_a_folder_becomes_a_video_a_still_and_one_line(model, folder, tmp_path):
    output = tmp_path / "out"
    answer = run(
        *("--source", folder, "--model", model, "--engine", "pytorch"),
        *("--seconds", 1, "--output", output, "--fps", 5),
    )
    assert answer.returncode == 0, answer.stderr + (output / "log" / "node.log").read_text()
    (line,) = answer.stdout.splitlines()
    assert re.match(
        rf"{folder}: \d+ frames in \d+\.\d s \(\d+\.\d fps\), latency p50 \d+ ms p95 \d+ ms, "
        rf"\d+ of \d+ images dropped, \d+\.\d instances a frame, pytorch .*; "
        rf"{output}/overlay\.mp4 {output}/overlay\.png$",
        line,
    ), line
    capture = cv2.VideoCapture(str(output / "overlay.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) >= 20  # a second or more at 30
    assert cv2.imread(str(output / "overlay.png")).shape == (64, 96, 3)
    assert not list(output.glob(".*"))


def test_a_node_that_fails_is_quoted(folder, tmp_path):
    answer = run("--source", folder, "--model", "no-such-model", "--output", tmp_path / "out")
    assert answer.returncode == 1
    assert "the node failed: no-such-model: no such file" in answer.stderr.splitlines()[-1]
    assert not list((tmp_path / "out").glob("*.mp4"))
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--source", "no/such/video.mp4"], "there is no no/such/video.mp4; it takes a folder"),
        (["--source", "77"], "there is no /dev/video77"),
        (["--seconds", "0"], "it must be above 0"),
        (["--fps", "-1"], "it must be 0 to 1000"),
    ],
)
def test_bad_arguments_end_in_one_line(arguments, words, capsys, tmp_path):
    try:
        code = demo.main([*arguments, "--output", str(tmp_path / "out")])
    except SystemExit as end:  # argparse's way
        code = end.code
    assert code
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_texts_reach_ros_as_texts():
    words = demo._parameters({"source": "0", "name": "it's", "flag": True, "rate": 5.0})
    assert words == [
        *("-p", "source:='0'", "-p", "name:='it''s'", "-p", "flag:=true", "-p", "rate:=5.0"),
    ]


def test_recorded_results_are_not_played_to_the_node(tmp_path):
    path = tmp_path / "bag"
    picture = image_message(np.zeros((8, 8, 3), np.uint8), header(0, "camera"))
    with BagWriter(path) as bag:
        bag.add_topic("/rt_panoptic/instances", INSTANCES)
        for topic in ("/camera", "/rt_panoptic/semantic"):
            bag.add_topic(topic, IMAGE)
            bag.write(topic, 0, picture)
    options = SimpleNamespace(source=str(path), size=None, fps=None)
    assert "topics:=['/camera']" in demo.camera(options).command
