"""The panoptic node with an engine that needs no network: run by the tests as a process of its own.

What the engine does is set by environment variables: FAKE_LOAD_SECONDS, FAKE_LOAD_UNTIL (a file that
ends the loading when it appears), FAKE_LOAD_ERROR, FAKE_BUILD_SECONDS and FAKE_BUILD_UNTIL (of the
engine, at the first frame), FAKE_FRAME_SECONDS. A picture whose first pixel is (255, 0, 255) makes it fail
as a GPU without memory does, (255, 0, 254) as a configuration that no engine can run. The red channel is
the class; green of 200 and more is a car: 255 is instance 1, 254 instance 2, and so on. FAKE_BOX is added
to each side of the detections' boxes, which else are the smallest around the car. With AS_ON_HUMBLE the
node finds no more of rclpy than Humble has.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np

from rt_panoptic_core.errors import CheckpointError, ConfigError
from rt_panoptic_core.inference.config import InferenceConfig
from rt_panoptic_core.inference.result import PanopticResult, Segment
from rt_panoptic_core.taxonomy import Taxonomy

CAR = 13


class FakeEngine:
    spec = SimpleNamespace(label="fake fp32 cpu", device="cpu")
    library = "fake 1.0"
    stages: ClassVar[dict[str, float]] = {}


class FakeSegmenter:
    def __init__(self, progress) -> None:
        self.engine = None
        self._progress = progress
        self.thresholds = InferenceConfig().thresholds
        self.taxonomy = Taxonomy.load("cityscapes")
        self.closed = False

    def is_ready(self, image_size):
        del image_size
        return self.engine is not None

    def prepare(self, image_size):
        del image_size
        if self.engine is None:
            self._progress("building the engine: export", 0.5)
            time.sleep(float(os.environ.get("FAKE_BUILD_SECONDS", "0")))
            wait_for(os.environ.get("FAKE_BUILD_UNTIL"))
            self.engine = FakeEngine()

    def segment(self, image):
        if self.closed:
            raise RuntimeError("segment() of a closed segmenter")
        self.prepare(image.shape[:2])
        time.sleep(float(os.environ.get("FAKE_FRAME_SECONDS", "0")))
        if tuple(image[0, 0]) == (255, 0, 255):
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
        if tuple(image[0, 0]) == (255, 0, 254):
            raise ConfigError("device 'abacus': it must be cpu")
        semantic = np.ascontiguousarray(image[..., 0])
        green = image[..., 1].astype(np.uint16)
        instance = np.where(green >= 200, 256 - green, 0).astype(np.uint16)
        segments = []
        # The score that the engine says it used: how a test sees that a threshold took effect.
        score = dataclasses.asdict(self.thresholds)["score"]
        for number in np.unique(instance[instance > 0]).tolist():
            rows, columns = np.nonzero(instance == number)
            more = float(os.environ.get("FAKE_BOX", "0"))
            first = (columns.min() - more, rows.min() - more)
            last = (columns.max() + 1 + more, rows.max() + 1 + more)
            corners = tuple(float(side) for side in (*first, *last))
            segments.append(Segment(number, CAR, True, score, int(rows.size), corners))
        return PanopticResult(semantic, instance, segments, np.full_like(semantic, 204))

    def close(self):
        self.closed, self.engine = True, None


def wait_for(file):
    while file and not Path(file).exists():
        time.sleep(0.02)


def load(values, progress):
    del values
    seconds = float(os.environ.get("FAKE_LOAD_SECONDS", "0"))
    progress("building the engine", 0.5)
    time.sleep(seconds)
    wait_for(os.environ.get("FAKE_LOAD_UNTIL"))
    if os.environ.get("FAKE_LOAD_ERROR"):
        raise CheckpointError(os.environ["FAKE_LOAD_ERROR"])
    return FakeSegmenter(progress)


if __name__ == "__main__":
    if os.environ.get("AS_ON_HUMBLE"):
        import as_on_humble  # noqa: F401
    from rt_panoptic_ros.panoptic_node import main

    sys.exit(main(load=load))
