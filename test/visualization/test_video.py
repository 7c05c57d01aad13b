"""Videos can be read back, are complete or absent, and say what is wrong with a frame."""

from __future__ import annotations

import subprocess

import cv2
import numpy as np
import pytest

from rt_panoptic_core.errors import ImageError
from rt_panoptic_core.visualization import video
from rt_panoptic_core.visualization.video import VideoWriter


def _frame(shade: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), (shade, 100, 30), np.uint8)


def _read(path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        more, frame = capture.read()
        if not more:
            return frames
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))


@pytest.fixture(params=["the encoder at hand", "OpenCV's encoder"])
def _each_encoder(request, monkeypatch):
    if request.param == "OpenCV's encoder":
        monkeypatch.setattr(video, "_ffmpeg_with_h264", lambda: None)


@pytest.mark.usefixtures("_each_encoder")
def test_frames_come_back_in_order_with_their_colours(tmp_path):
    path = tmp_path / "new folder" / "drive.mp4"
    with VideoWriter(path, fps=20) as writer:
        for shade in (40, 120, 200):
            writer.write(_frame(shade))
        assert not path.exists()
    assert writer.frames == 3
    frames = _read(path)
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 3
    # Lossy encoding: means within a few steps of what was written.
    np.testing.assert_allclose([frame[..., 0].mean() for frame in frames], [40, 120, 200], atol=8)
    np.testing.assert_allclose([frame[..., 1].mean() for frame in frames], 100, atol=8)
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == pytest.approx(20)


@pytest.mark.usefixtures("_each_encoder")
def test_an_odd_size_loses_its_last_row_and_column(tmp_path):
    with VideoWriter(tmp_path / "odd.mp4", fps=10) as writer:
        writer.write(_frame(90, height=49, width=65))
    assert _read(tmp_path / "odd.mp4")[0].shape == (48, 64, 3)


@pytest.mark.usefixtures("_each_encoder")
def test_an_error_in_the_block_leaves_nothing_behind(tmp_path):
    with pytest.raises(KeyError), VideoWriter(tmp_path / "x.mp4", fps=10) as writer:
        writer.write(_frame(10))
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_frame_of_another_size_is_refused_by_its_number(tmp_path):
    with (
        pytest.raises(ImageError, match="frame 1 is 32×48, the first was 64×48"),
        VideoWriter(tmp_path / "x.mp4", fps=10) as writer,
    ):
        writer.write(_frame(10))
        writer.write(_frame(10, width=32))


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_what_is_no_rgb_image_is_refused(tmp_path, bad):
    with (
        pytest.raises(ImageError, match=r"uint8 \[H, W, 3\]"),
        VideoWriter(tmp_path / "x.mp4", fps=10) as writer,
    ):
        writer.write(bad)


def test_no_frame_is_an_error_and_no_file(tmp_path):
    with pytest.raises(ImageError, match="no frame"), VideoWriter(tmp_path / "x.mp4", fps=10):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_dying_encoder_is_reported_with_its_last_words(tmp_path, monkeypatch):
    fake = tmp_path / "ffmpeg"
    fake.write_text("#!/bin/sh\necho 'No space left on device' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(video, "_ffmpeg_with_h264", lambda: str(fake))
    with (
        pytest.raises(OSError, match="encoder failed: No space left on device"),
        VideoWriter(tmp_path / "x.mp4", fps=10) as writer,
    ):
        for _ in range(100):
            writer.write(np.zeros((480, 640, 3), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["ffmpeg"]


def test_h264_is_what_is_written_where_it_can_be(tmp_path):
    ffmpeg = video._ffmpeg_with_h264()
    if ffmpeg is None:
        pytest.skip("no ffmpeg with libx264: neither imageio-ffmpeg nor the system has one")
    with VideoWriter(tmp_path / "x.mp4", fps=10) as writer:
        writer.write(_frame(10))
    words = subprocess.run(
        [ffmpeg, "-hide_banner", "-i", tmp_path / "x.mp4"], capture_output=True, text=True
    ).stderr
    assert "Video: h264" in words
    assert "yuv420p" in words


@pytest.mark.parametrize(("name", "fps"), [("x.avi", 10.0), ("x.mp4", 0.0), ("x.mp4", -1.0)])
def test_bad_arguments_are_refused_at_once(tmp_path, name, fps):
    with pytest.raises(ValueError, match=r"mp4"):
        VideoWriter(tmp_path / name, fps=fps)
