"""Which sample comes when: decided by the seed and the draw's number alone.

Nothing here has hidden state, so a run that is continued at draw n sees what an uninterrupted one would
have seen from draw n on, whatever the workers had prefetched when it died.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler


@dataclass(frozen=True)
class Draw:
    """Draw ``number`` of a run takes sample ``index`` of data set ``source``."""

    source: int
    index: int
    number: int


class MixtureSampler(Sampler[Draw]):
    """The draws of one process: every ``world_size``-th of the run's, from ``start`` on.

    Each draw takes a source by weight, and goes through that source's samples in a new random order each
    time round: within a round no sample comes twice.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        weights: Sequence[float],
        draws: int,
        *,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Hold the mixture.

        Args:
            lengths: samples of each source.
            weights: of each source, above 0.
            draws: of the whole run and all processes.
            start: draws that are done already, of all processes.
        """
        self.lengths = tuple(lengths)
        shares = np.asarray(weights, np.float64)
        self._edges = np.cumsum(shares / shares.sum())[:-1]
        self.draws = draws
        self.seed = seed
        self.start = start
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        # Of the whole run: the loop counts the batches that are done as fetched already.
        return self.draws // self.world_size

    def __iter__(self) -> Iterator[Draw]:
        chooser = np.random.default_rng([self.seed, 0])
        taken = [0] * len(self.lengths)
        orders: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)] * len(self.lengths)
        for number in range(self.draws):
            source = int(np.searchsorted(self._edges, chooser.random(), side="right"))
            position = taken[source] % self.lengths[source]
            taken[source] += 1
            # A round's order is drawn when somebody needs it: skipping many rounds stays cheap.
            if number < self.start:
                continue
            if position == 0 or len(orders[source]) == 0:
                turn = (taken[source] - 1) // self.lengths[source]
                orders[source] = np.random.default_rng([self.seed, 1, source, turn]).permutation(
                    self.lengths[source]
                )
            if (number - self.start) % self.world_size == self.rank:
                yield Draw(source, int(orders[source][position]), number)


class EvaluationSampler(Sampler[int]):
    """Samples ``rank``, ``rank + world_size``, … of a data set: over all processes each exactly once.

    Processes may get one sample more or less than others: evaluation gathers counts and needs no equal
    number of steps, so nothing is repeated to fill up and nothing dropped.
    """

    def __init__(self, length: int, rank: int = 0, world_size: int = 1) -> None:
        self._indices = range(rank, length, world_size)

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)
