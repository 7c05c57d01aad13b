"""Small pictures written as text, shared by the tests: a letter is a segment, a dot is void."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rt_panoptic_core.evaluation.overlaps import Segment
from rt_panoptic_core.panoptic_format import write_ids

CATEGORIES = [
    {"id": 1, "name": "car", "isthing": 1},
    {"id": 2, "name": "person", "isthing": 1},
    {"id": 3, "name": "road", "isthing": 0},
    {"id": 4, "name": "sky", "isthing": 0},
]

# Three images: truth, its categories, its crowd segments; prediction, its categories. Between them
# they have every case: matches, wrong category, IoU of 0.5 and less, crowd, void, false predictions
# mostly on void.
IMAGES: list[tuple[str, dict[str, int], str, str, dict[str, int]]] = [
    (
        """
        ..aaaabbbbcc
        ..aaaabbbbcc
        ..aaaabbbbcc
        ddddddddeecc
        ddddddddeecc
        ddddddddeecc
        """,
        {"a": 1, "b": 2, "c": 3, "d": 4, "e": 1},
        "",
        """
        aaaaabbbbbcc
        aaaaabbbbbcc
        aaaaabbbbbcc
        dddddddffecc
        dddddddffecc
        ggddddd.feec
        """,
        {"a": 1, "b": 2, "c": 3, "d": 4, "e": 1, "f": 2, "g": 1},
    ),
    (
        """
        aaaaaa..bbbb
        aaaaaa..bbbb
        aaaccc..bbbb
        aaaccc..dddd
        """,
        {"a": 3, "b": 1, "c": 2, "d": 1},
        "bd",
        """
        aaaaaaaabbbb
        aaaaaaaabbbb
        aaaaccaabeee
        aaccccaabeee
        """,
        {"a": 3, "b": 1, "c": 2, "e": 1},
    ),
    (
        """
        aaaabbbbcccc
        aaaabbbbcccc
        aaaabbbbcccc
        """,
        {"a": 1, "b": 2, "c": 4},
        "",
        """
        aaabbbbbccdd
        aaabbbbbccdd
        aaabbbbb..dd
        """,
        {"a": 1, "b": 2, "c": 3, "d": 4},
    ),
]

# What panopticapi's pq_compute says of these three images: tp, fp, fn and sum of IoU by category, and
# PQ, SQ, RQ, number of classes.
COUNTS = {
    1: (2, 4, 1, 1.5),
    2: (3, 1, 0, 2.314285714285714),
    3: (2, 1, 0, 1.8114035087719298),
    4: (1, 1, 1, 0.7916666666666666),
}
ALL = (0.5287381399928393, 0.8046992481203007, 0.6503968253968253, 4)
THINGS = (0.4972789115646258, 0.7607142857142857, 0.6507936507936507, 2)
STUFF = (0.5601973684210526, 0.8486842105263157, 0.65, 2)


def id_map(text: str) -> npt.NDArray[np.int32]:
    """Ids of a picture: the letters' code points, 0 for a dot."""
    rows = text.split()
    return np.array([[0 if c == "." else ord(c) for c in row] for row in rows], np.int32)


def segments(text: str, categories: dict[str, int], crowd: str = "") -> dict[int, Segment]:
    """Segments of a picture by id; category 1 is class 0."""
    ids = id_map(text)
    return {
        ord(letter): Segment(category - 1, int((ids == ord(letter)).sum()), letter in crowd)
        for letter, category in categories.items()
    }


def write_files(folder: Path) -> tuple[Path, Path]:
    """Write the three images as COCO panoptic files; the paths of the two JSONs."""
    sides = {"truth": [], "predictions": []}
    for number, (truth, truth_categories, crowd, guess, guess_categories) in enumerate(IMAGES):
        for side, text, categories, crowds in (
            ("truth", truth, truth_categories, crowd),
            ("predictions", guess, guess_categories, ""),
        ):
            write_ids(folder / side / f"{number}.png", id_map(text))
            sides[side].append(
                {
                    "image_id": number,
                    "file_name": f"{number}.png",
                    "segments_info": [
                        {
                            "id": segment_id,
                            "category_id": segment.class_id + 1,
                            "area": segment.area,
                            "iscrowd": int(segment.is_crowd),
                        }
                        for segment_id, segment in segments(text, categories, crowds).items()
                    ],
                }
            )
    for side, listed in sides.items():
        content = {"annotations": listed, "categories": CATEGORIES}
        (folder / f"{side}.json").write_text(json.dumps(content))
    return folder / "truth.json", folder / "predictions.json"
