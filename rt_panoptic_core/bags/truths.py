"""Which ground truth belongs to which image topic, and opening it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rt_panoptic_core.bags.ground_truth import (
    BagGroundTruth,
    FolderGroundTruth,
    GroundTruthSource,
    find_label_topics,
)
from rt_panoptic_core.bags.reader import BagReader
from rt_panoptic_core.errors import BagError
from rt_panoptic_core.taxonomy import Taxonomy


def open_truths(
    reader: BagReader,
    image_topics: Sequence[str],
    taxonomy: Taxonomy,
    *,
    label_topics: Sequence[str] = (),
    folder: Path | None = None,
    tolerance: float = 0.0,
    search: bool = True,
) -> tuple[dict[str, GroundTruthSource], list[str]]:
    """Ground truth by image topic, and where it is in words.

    Args:
        reader: the bag.
        image_topics: the topics that are evaluated.
        taxonomy: the model's.
        label_topics: one for each image topic, or none.
        folder: of files, for a single image topic.
        tolerance: largest difference of stamps, seconds.
        search: without either, look for the topics that a bag's ground truth usually has.

    Raises:
        BagError: numbers do not fit, or something named is not there.
    """
    if folder is not None and (label_topics or len(image_topics) != 1):
        raise BagError(
            "a ground truth folder goes with one image topic and without ground truth topics"
        )
    if label_topics and len(label_topics) != len(image_topics):
        raise BagError(
            f"{len(label_topics)} ground truth topics for {len(image_topics)} image topics; "
            "give one for each, in the same order"
        )
    nanoseconds = round(tolerance * 1e9)
    if folder is not None:
        source = FolderGroundTruth(folder, taxonomy, nanoseconds)
        return {image_topics[0]: source}, [str(folder)]
    names: list[str | None] = list(label_topics)
    if not names and search and len(image_topics) == 1:
        names = [None]
    truths: dict[str, GroundTruthSource] = {}
    words = []
    for image_topic, name in zip(image_topics, names, strict=False):
        topics = find_label_topics(reader, name)
        if topics is not None:
            truths[image_topic] = BagGroundTruth(reader.path, topics, taxonomy, nanoseconds)
            words.append(", ".join(topics.names))
    return truths, words
