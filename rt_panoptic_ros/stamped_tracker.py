"""Instance ids that stay with their objects, by the stamps of one camera's frames."""

from __future__ import annotations

import time
from collections.abc import Callable

from rt_panoptic_core.inference.result import PanopticResult
from rt_panoptic_core.inference.tracking import InstanceTracker
from rt_panoptic_ros.stamps import NANOSECONDS


class StampedTracker:
    """An :class:`InstanceTracker` for frames that come when they come; used on the inference thread alone.

    It lives as long as the node, so that an id that was given once is not given again before all others
    were, however often the node is deactivated or cleaned up in between.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Without tracks; ``clock`` gives seconds."""
        self._tracker = InstanceTracker()
        self._clock = clock
        self._by_stamp = True
        self._tracking = False

    def update(self, result: PanopticResult, stamp: int, memory: float) -> PanopticResult:
        """``result`` with the ids of its objects.

        Args:
            result: of the newest frame; not changed.
            stamp: of the frame, nanoseconds. 0 is none: the moment of this call counts then.
            memory: seconds for which an object that is out of sight keeps its id.
        """
        by_stamp = stamp != 0
        if by_stamp != self._by_stamp:
            self.forget()
        self._by_stamp, self._tracking = by_stamp, True
        self._tracker.memory = memory
        # A float64 holds seconds since 1970 to a quarter of a microsecond.
        return self._tracker.update(result, stamp / NANOSECONDS if by_stamp else self._clock())

    def forget(self) -> None:
        """Begin a new scene; ids go on."""
        if self._tracking:
            self._tracker.forget()
            self._tracking = False
