"""What is left of a recording that cannot be opened as a whole."""

from __future__ import annotations

from pathlib import Path

from rosbags.interfaces import Connection


class Recovered:
    """A recording that is read from its start to where it breaks off, without its index.

    Attributes:
        path: of the file.
        connections: the topics, with the messages that can be read counted.
        damage: one sentence for each thing that is wrong.
        notes: one for each that is left out, and as it should be.
    """

    def __init__(self, path: Path) -> None:
        """Nothing found yet in the file at ``path``."""
        self.path = path
        self.damage: list[str] = []
        self.notes: list[str] = []
        self.connections: list[Connection] = []

    def close(self) -> None:
        """Nothing: the file is open only while it is read."""

    def _note(self, sentence: str) -> None:
        if sentence not in self.damage:
            self.damage.append(sentence)
