"""The camera of a bag, as bag.launch.py has to know it before the node starts.

``ros2 launch`` runs launch files on the system's Python. What reads bags may be in a virtual environment,
where the nodes run: on the first ``python3`` of PATH. So that one is asked, in a process of its own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from rt_panoptic_core.errors import BagError

if TYPE_CHECKING:
    from rt_panoptic_core.bags.reader import BagReader


class BagCamera(NamedTuple):
    """A bag's camera, and what is recorded beside it.

    Attributes:
        topic: its image topic.
        is_compressed: whether its images are.
        size: (height, width) of its images if known.
        results: topics of a node's recorded results, without ``topic``.
        others: all other topics, with ``topic``.
        note: why it may be no camera's after all, or empty.
    """

    topic: str
    is_compressed: bool
    size: tuple[int, int] | None
    results: list[str]
    others: list[str]
    note: str = ""


def find_camera(bag: str, image: str = "") -> BagCamera:
    """The camera of the bag at ``bag``: the topic ``image``, or the only one where that is empty.

    Raises:
        BagError: no bag, no such topic, or several and none named; the topics that are there are listed.
    """
    python = shutil.which("python3") or sys.executable
    asked = subprocess.run(
        [python, "-m", "rt_panoptic_ros.bag_camera", bag, image],
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode:
        lines = asked.stderr.strip().splitlines() or [f"{python} ended with {asked.returncode}"]
        raise BagError(lines[-1])
    # Alone on the last line, whatever a library may have said before.
    found = json.loads(asked.stdout.strip().rpartition("\n")[2])
    size = found.pop("size")
    return BagCamera(size=(size[0], size[1]) if size else None, **found)


def read_camera(reader: BagReader, image: str = "", *, option: str = "image:=TOPIC") -> BagCamera:
    """The camera of an open bag, as :func:`find_camera` finds it, but for its size.

    Args:
        reader: the bag.
        image: its topic, or empty.
        option: what a user chooses the topic with, for the errors.

    Raises:
        BagError: as :func:`find_camera`.
    """
    from rt_panoptic_core.bags.frames import find_image_topics
    from rt_panoptic_core.bags.messages import COMPRESSED_IMAGE
    from rt_panoptic_core.bags.node_topics import recorded_results

    notes: list[str] = []
    names = [image] if image else []
    topic = find_image_topics(reader, names, option=option, note=notes.append)[0]
    results = [name for name in recorded_results(reader) if name != topic.name]
    others = [name for name in reader.topics if name not in results]
    is_compressed = topic.message_type == COMPRESSED_IMAGE
    return BagCamera(topic.name, is_compressed, None, results, others, " ".join(notes))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the camera of the bag that is named first as JSON; its topic may be named second."""
    from rt_panoptic_core.bags.reader import BagReader
    from rt_panoptic_core.bags.survey import survey

    bag, image = sys.argv[1:] if arguments is None else arguments
    try:
        with BagReader(bag) as reader:
            camera = read_camera(reader, image)
            # Only a hint: pictures that do not decode are the node's to tell of.
            with suppress(BagError):
                camera = camera._replace(size=survey(reader, [camera.topic])[0].size)
    except BagError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(camera._asdict()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
