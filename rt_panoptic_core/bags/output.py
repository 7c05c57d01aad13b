"""The folder that an evaluation writes into: what is where, and whether it can be gone on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rt_panoptic_core.bags.annotate import RecordedResults, ResultTopics, count_results
from rt_panoptic_core.bags.storage import PARTIAL_SUFFIX
from rt_panoptic_core.errors import BagError
from rt_panoptic_core.files import HeldFolder, write_json
from rt_panoptic_core.taxonomy import Taxonomy

_SHORT = 60


class OutputFolder:
    """Names of the outputs, and the state of the run that makes them.

    Attributes:
        path: the folder.
        annotated: the annotated bag.
        previous: what an interrupted run left of it.
    """

    def __init__(self, path: Path) -> None:
        """Names below ``path``."""
        self.path = path
        self.annotated = path / "annotated"
        self.previous = path / "previous"
        self.run = path / "run.json"
        self.report_json = path / "report.json"
        self.report_html = path / "report.html"
        self.frames_csv = path / "frames.csv"
        self.timing_json = path / "timing.json"
        self.timing_js = path / "timing.js"
        self.replies = path / "replies"
        self.replies_json = path / "replies.json"
        self.node_log = path / "node.log"
        self.replay_log = path / "replay.log"
        self._held: HeldFolder | None = None

    @property
    def replaced(self) -> tuple[Path, ...]:
        """The folders in it that a run makes anew, or removes."""
        annotated, replies = (
            path.with_name(path.name + PARTIAL_SUFFIX) for path in (self.annotated, self.replies)
        )
        return self.annotated, annotated, self.previous, self.replies, replies

    def video(self, topic: str, topics: Sequence[str]) -> Path:
        """The overlay video of a topic: ``overlay.mp4``, with several ``overlay_NAME.mp4``."""
        return self._of_topic("overlay", ".mp4", topic, topics)

    def quality_json(self, topic: str, topics: Sequence[str]) -> Path:
        """What `rt-panoptic evaluate` would have written of a topic: ``quality.json``, likewise."""
        return self._of_topic("quality", ".json", topic, topics)

    def quality_html(self, topic: str, topics: Sequence[str]) -> Path:
        """Its report: ``quality.html``, likewise."""
        return self._of_topic("quality", ".html", topic, topics)

    def begin(
        self,
        fingerprint: Mapping[str, Any],
        topics: Mapping[str, ResultTopics],
        *,
        overwrite: bool = False,
    ) -> bool:
        """Make the folder ready for a run, and hold it as long as this lives; whether it is complete already.

        An interrupted run of the same fingerprint is gone on with: what it wrote is at ``previous`` then.

        Args:
            fingerprint: plain data of everything that the outputs depend on.
            topics: result topics by image topic.
            overwrite: forget what another run wrote.

        Raises:
            BagError: the folder holds something else, another process writes into it, or it cannot be
                written.
        """
        self.refuse_other_runs(fingerprint, overwrite=overwrite, whole=True)
        if self.path.exists():
            self._hold()
        known = self._fingerprint()
        if overwrite:
            self._clear({*topics, *_image_topics(known)})
        elif known is not None and self.report_json.exists():
            return True
        try:
            self._hold()
            for unfinished in self.path.glob(".*.part.*"):
                # A video that a killed process was writing.
                unfinished.unlink()
            self._set_aside(topics)
            write_json(self.run, dict(fingerprint))
        except OSError as error:
            raise BagError(f"{self.path}: cannot be written: {error.strerror}") from error
        return False

    def refuse_other_runs(
        self, fingerprint: Mapping[str, Any], *, overwrite: bool = False, whole: bool = False
    ) -> None:
        """Refuse the folder where :meth:`begin` would, as far as the values in ``fingerprint`` tell.

        Args:
            fingerprint: as for :meth:`begin`, but values that are not known yet may be missing.
            overwrite: likewise.
            whole: no value is missing.

        Raises:
            BagError: it is no folder, or it holds something else.
        """
        if self.path.exists() and not self.path.is_dir():
            raise BagError(f"{self.path} is no folder; choose another name")
        if overwrite or not self.path.exists():
            return
        known = self._fingerprint()
        if known is None and any(self.path.iterdir()):
            raise BagError(f"{self.path} holds other files; choose another folder, or --overwrite")
        if not whole and isinstance(known, dict):
            known = {key: value for key, value in known.items() if key in fingerprint}
        if known is not None and known != fingerprint:
            raise BagError(
                f"{self.path} holds a run with another {', '.join(_differences(known, fingerprint))}; "
                "choose another folder, or --overwrite"
            )

    @property
    def hold(self) -> int:
        """The file descriptor that holds the begun folder: who inherits it holds it, too."""
        assert self._held is not None
        return self._held.descriptor

    def interrupted(
        self, topics: Mapping[str, ResultTopics], taxonomy: Taxonomy
    ) -> RecordedResults | None:
        """What an interrupted run left, or None."""
        if not self.previous.exists():
            return None
        try:
            return RecordedResults(self.previous, topics, taxonomy)
        except BagError:
            return None

    def finish(self) -> None:
        """Remove what only an interrupted run needs."""
        shutil.rmtree(self.previous, ignore_errors=True)
        shutil.rmtree(self.replies, ignore_errors=True)

    def _hold(self) -> None:
        """Keep other processes out of the folder, which is made if need be."""
        self._held = HeldFolder.of(self.path)
        if self._held is None:
            raise BagError(
                f"{self.path}: another process is writing into it; wait for it (a replay whose command was "
                "killed ends within seconds), or choose another folder"
            )

    def _set_aside(self, topics: Mapping[str, ResultTopics]) -> None:
        """Keep as ``previous`` the longer one of what the last runs left."""
        partial = self.annotated.with_name(self.annotated.name + PARTIAL_SUFFIX)
        left = [path for path in (self.annotated, partial, self.previous) if path.exists()]
        if not left:
            return
        best = max(left, key=lambda path: count_results(path, topics))
        for path in left:
            if path != best:
                shutil.rmtree(path)
        if best != self.previous:
            best.rename(self.previous)

    def _of_topic(self, stem: str, suffix: str, topic: str, topics: Sequence[str]) -> Path:
        if len(topics) == 1:
            return self.path / f"{stem}{suffix}"
        return self.path / f"{stem}_{topic.strip('/').replace('/', '_')}{suffix}"

    def _fingerprint(self) -> Any:
        try:
            return json.loads(self.run.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def _clear(self, topics: Collection[str]) -> None:
        """Remove outputs by their names, those of ``topics`` too: never anything else in the folder."""
        for folder in self.replaced:
            shutil.rmtree(folder, ignore_errors=True)
        files = [self.run, self.report_json, self.report_html, self.frames_csv]
        files += [self.replies_json, self.node_log, self.replay_log]
        files += [self.timing_json, self.timing_js]
        for topic in topics:
            # One topic's outputs have no name in theirs, those of several have.
            for of in ([topic], [topic, ""]):
                files += [self.video(topic, of), self.quality_json(topic, of)]
                files.append(self.quality_html(topic, of))
        for file in files:
            file.unlink(missing_ok=True)


def _differences(known: Any, wanted: Any, name: str = "") -> list[str]:
    """Names of the values that two runs do not share, with both where they are short."""
    if isinstance(known, dict) and isinstance(wanted, Mapping):
        keys = sorted({*known, *wanted})
        named = [(key, f"{name}.{key}" if name else key) for key in keys]
        return [
            found
            for key, full in named
            for found in _differences(known.get(key), wanted.get(key), full)
        ]
    if known == wanted:
        return []
    short = len(f"{known}{wanted}") < _SHORT
    return [f"{name} ({known} there, {wanted} here)" if short else name]


def _image_topics(fingerprint: Any) -> list[str]:
    """The image topics of the run that ``fingerprint`` tells of."""
    topics = fingerprint.get("image_topics") if isinstance(fingerprint, dict) else None
    return [str(topic) for topic in topics] if isinstance(topics, list) else []
