"""Data that tells fewer classes apart than the model."""

from __future__ import annotations

import numpy as np

from rt_panoptic_core.datasets.camvid import CamVid
from rt_panoptic_core.datasets.sample import PanopticSample
from rt_panoptic_core.evaluation.evaluation import Evaluation
from rt_panoptic_core.evaluation.frame import compared_as
from rt_panoptic_core.evaluation.runner import evaluate
from rt_panoptic_core.inference.result import PanopticResult, Segment
from rt_panoptic_core.taxonomy import Taxonomy

CITYSCAPES = Taxonomy.load("cityscapes")
WALL, BUILDING = CITYSCAPES.class_id("wall"), CITYSCAPES.class_id("building")
TRUCK, CAR = CITYSCAPES.class_id("truck"), CITYSCAPES.class_id("car")
BICYCLE, RIDER = CITYSCAPES.class_id("bicycle"), CITYSCAPES.class_id("rider")


def result():
    semantic = np.full((40, 60), WALL, np.uint8)
    semantic[30:, :20], semantic[30:, 20:40] = TRUCK, BICYCLE
    instance = np.zeros((40, 60), np.uint16)
    instance[30:, :20] = 1
    segments = [
        Segment(1, TRUCK, True, 0.9, 200, (0.0, 30.0, 20.0, 40.0)),
        Segment(0, WALL, False, 1.0, 2000, None),
    ]
    return PanopticResult(semantic, instance, segments)


def test_without_a_table_nothing_changes():
    same = result()
    assert compared_as(same, None) is same


def test_camvids_table_joins_what_camvid_joins():
    merged = compared_as(result(), CamVid([], CITYSCAPES).counts_as)
    assert sorted(np.unique(merged.semantic)) == sorted([BUILDING, CAR, RIDER])
    assert [s.class_id for s in merged.segments] == [CAR, BUILDING]
    assert (merged.instance == result().instance).all()


def test_a_model_that_knows_better_than_camvid_is_not_punished():
    semantic = np.full((40, 60), BUILDING, np.uint8)
    semantic[30:, :20], semantic[30:, 20:40] = CAR, RIDER
    image = np.zeros((40, 60, 3), np.uint8)
    sample = PanopticSample("a", image, semantic, np.zeros((40, 60), np.int32), has_instances=False)

    class OneFrame(CamVid):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return sample

    class Model:
        taxonomy = CITYSCAPES

        def segment(self, image):
            del image
            return result()

    evaluation = Evaluation(CITYSCAPES)
    assert evaluate(Model(), OneFrame([], CITYSCAPES), evaluation) == []
    assert evaluation.semantic.result().mean_iou == 1.0
    assert evaluation.panoptic.result().stuff.pq == 1.0
