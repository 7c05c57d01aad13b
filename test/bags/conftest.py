"""Small streets of flat colours, where everything is known, and bags of them.

Lets the tests here import what they share: bag_evaluations.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from rt_panoptic_core.bags.messages import (
    IMAGE,
    LABEL_INFO,
    compressed_message,
    header,
    image_message,
    label_info_message,
)
from rt_panoptic_core.bags.writer import BagWriter, qos
from rt_panoptic_core.inference.config import InferenceConfig
from rt_panoptic_core.inference.result import PanopticResult, Segment
from rt_panoptic_core.taxonomy import Taxonomy

sys.path.append(str(Path(__file__).parent))

HEIGHT, WIDTH = 48, 64
START = 1_000 * 10**9
STEP = 10**8


@dataclass
class Scene:
    """One frame of the flat street: road below sky, two cars that drive to the right."""

    image: np.ndarray
    semantic: np.ndarray
    instance: np.ndarray


class FlatStreet:
    """Frames by number, and a stand-in for a segmenter that knows them by heart."""

    def __init__(self):
        self.taxonomy = Taxonomy.load("cityscapes")
        self.thresholds = InferenceConfig().thresholds
        self.road, self.sky = self.taxonomy.class_id("road"), self.taxonomy.class_id("sky")
        self.car = self.taxonomy.class_id("car")
        self.answered = 0
        self._texture = np.random.default_rng(1).integers(0, 12, (HEIGHT, WIDTH), dtype=np.uint8)

    def scene(self, number):
        semantic = np.full((HEIGHT, WIDTH), self.sky, dtype=np.uint8)
        semantic[HEIGHT // 2 :] = self.road
        instance = np.zeros((HEIGHT, WIDTH), dtype=np.uint16)
        for car, (row, column) in enumerate([(26, 4 + number), (36, 30 + number)], start=1):
            place = (slice(row, row + 10), slice(column, column + 14))
            semantic[place], instance[place] = self.car, car
        colors = np.zeros((256, 3), dtype=np.uint8)
        colors[[self.road, self.sky, self.car]] = [[90, 60, 90], [70, 130, 180], [10, 10, 142]]
        image = colors[semantic] + self._texture[..., None]
        # The frame's number is written into the corner, for the stand-in to read.
        image[0, 0] = number
        return Scene(image, semantic, instance)

    def segment(self, image):
        self.answered += 1
        scene = self.scene(int(image[0, 0, 0]))
        segments = []
        for car in (1, 2):
            rows, columns = np.nonzero(scene.instance == car)
            box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            corners = tuple(float(value) for value in box)
            segments.append(Segment(car, self.car, True, 1.0 - car / 8, len(rows), corners))
        for class_id in (self.road, self.sky):
            area = int((scene.semantic == class_id).sum())
            segments.append(Segment(0, class_id, False, 1.0, area, None))
        return PanopticResult(scene.semantic, scene.instance, segments)


@pytest.fixture
def street():
    return FlatStreet()


@dataclass
class BagMaker:
    """Writes bags of the flat street."""

    street: FlatStreet
    folder: Path

    def __call__(
        self,
        name="drive",
        frames=range(8),
        *,
        topic="/camera/image",
        truth=True,
        stamps=None,
        compressed=False,
        **options,
    ):
        """Path of a bag with the frames of these numbers, by default a tenth of a second apart."""
        path = self.folder / name
        with BagWriter(path, **options) as bag:
            self.fill(bag, frames, topic, truth=truth, stamps=stamps, compressed=compressed)
        return path

    def fill(self, bag, frames, topic, *, truth=True, stamps=None, compressed=False):
        kind = "sensor_msgs/msg/CompressedImage" if compressed else IMAGE
        bag.add_topic(topic, kind)
        if truth:
            bag.add_topic("/ground_truth/semantic", IMAGE)
            bag.add_topic("/ground_truth/instance", IMAGE)
            bag.add_topic("/ground_truth/label_info", LABEL_INFO, offered=qos(latched=True))
            info = label_info_message(self.street.taxonomy, header(START, "camera"))
            bag.write("/ground_truth/label_info", START, info)
        for place, number in enumerate(frames):
            time = START + place * STEP
            head = header(time if stamps is None else stamps[place], "camera")
            scene = self.street.scene(number)
            picture = (
                compressed_message(scene.image, head, image_format="png")
                if compressed
                else image_message(scene.image, head)
            )
            bag.write(topic, time, picture)
            if truth:
                bag.write("/ground_truth/semantic", time, image_message(scene.semantic, head))
                bag.write("/ground_truth/instance", time, image_message(scene.instance, head))


@pytest.fixture
def make_flat_bag(street, tmp_path):
    return BagMaker(street, tmp_path)
