"""Whether images' stamps fit the node's clock, and what is told where they do not."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.clock import ROSClock

from rt_panoptic_ros.stamps import NANOSECONDS
from rt_panoptic_ros.statistics import Statistics, Trouble
from rt_panoptic_ros.throttled_log import ThrottledLog

NO_CLOCK = "use_sim_time is set, but nothing is published on /clock"

_FUTURE_TOLERANCE = NANOSECONDS // 10
"""Clocks of two machines under NTP differ by less; a stamp farther ahead is a fault."""

_OLDEST = 10 * NANOSECONDS
"""No camera and no network takes so long: an image that is older when it comes has another clock's stamp."""


class StampCheck:
    """Looks at the stamp of each image that comes; faults are counted and logged."""

    def __init__(
        self,
        clock: ROSClock,
        statistics: Statistics,
        warn: ThrottledLog,
        on_back: Callable[[], object],
    ) -> None:
        """Without an image yet.

        Args:
            clock: the node's.
            statistics: where faults are counted.
            warn: throttled log.
            on_back: called when time went back.
        """
        self._clock = clock
        self._statistics = statistics
        self._warn = warn
        self._on_back = on_back
        self._last = 0
        self._was_ahead = False

    @property
    def clock_missing(self) -> bool:
        """Whether the node goes by /clock, and no time came there yet."""
        return bool(self._clock.ros_time_is_active) and self._clock.now().nanoseconds == 0

    def forget(self) -> None:
        """Begin a new stream of images."""
        self._last = 0
        self._was_ahead = False

    def check(self, topic: str, stamp: int) -> float | None:
        """Seconds from its ``stamp``, in nanoseconds, to now of an image that just came.

        None where the stamp does not tell how old it is.
        """
        if stamp == 0:
            self._tell(
                Trouble.ZERO_STAMP,
                topic,
                "a stamp of zero; latency cannot be told, and consumers cannot match the results",
            )
            return None
        if stamp < self._last:
            back = (self._last - stamp) / NANOSECONDS
            self._tell(
                Trouble.STAMP_BACK,
                topic,
                f"the stamp went back by {back:.3f} s: two publishers, or a bag that starts again",
            )
            self._on_back()
        self._last = stamp
        if self.clock_missing:
            self._warn(
                NO_CLOCK,
                f"{NO_CLOCK}: latency cannot be told; publish it (`ros2 bag play --clock`, a simulator), or "
                "set use_sim_time to false",
            )
            return None
        age = self._clock.now().nanoseconds - stamp
        was_ahead, self._was_ahead = self._was_ahead, age < -_FUTURE_TOLERANCE
        if -_FUTURE_TOLERANCE <= age <= _OLDEST:
            return age / NANOSECONDS
        if age < 0 and self._clock.ros_time_is_active and not was_ahead:
            # Where a bag starts again, /clock may have gone back before the last image came.
            return None
        way_out = (
            "its publisher does not follow /clock; set use_sim_time there"
            if self._clock.ros_time_is_active
            else "synchronise the clocks, or set use_sim_time for a bag or simulation"
        )
        seconds = abs(age) / NANOSECONDS
        if age < 0:
            words = f"the stamp is {seconds:.3f} s in the future: {way_out}"
            self._tell(Trouble.STAMP_FUTURE, topic, words)
        else:
            self._tell(Trouble.STAMP_OLD, topic, f"stamps are {seconds:.0f} s old: {way_out}")
        return None

    def _tell(self, kind: Trouble, topic: str, words: str) -> None:
        self._statistics.trouble(kind, words)
        self._warn((topic, kind), f"{topic}: {words}")
