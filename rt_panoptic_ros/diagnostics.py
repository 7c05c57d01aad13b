"""What /diagnostics says of the node, made from its counters."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from rt_panoptic_core.errors import EngineError
from rt_panoptic_core.resources import resident_memory
from rt_panoptic_ros.inputs import InputTopic
from rt_panoptic_ros.outputs import POINT_TOPICS
from rt_panoptic_ros.stamp_check import NO_CLOCK
from rt_panoptic_ros.statistics import Drop, Input, Snapshot, Trouble

_MIB = 1024 * 1024

_LEAST_PERIODS = 0.5
"""Of messages, that a rate is over: after a stall the next one may follow at once, and a burst of results."""


@dataclass(frozen=True)
class Situation:
    """What the counters do not know.

    Attributes:
        name: full name of the node.
        state: label of the lifecycle state.
        enabled: parameter ``enabled``.
        inputs: what is subscribed; empty while not active.
        unfit: sentences about publishers that nothing can be received from.
        wanted: topics that somebody listens to.
        engine: one line about engine, precision, device and size; empty while there is none.
        device: where it runs.
        progress: what loading is doing; empty when it is done.
        failure: why the last transition failed; empty if it did not.
        details: more about the engine, shown as they are.
        clock_missing: ``use_sim_time`` is set, and no time came on /clock yet.
    """

    name: str
    state: str
    enabled: bool
    inputs: Mapping[Input, InputTopic]
    unfit: Sequence[str]
    wanted: Sequence[str]
    engine: str
    device: str
    progress: str
    failure: str
    details: Mapping[str, str]
    clock_missing: bool = False


class Diagnostics:
    """Turns snapshots into messages; remembers the last ones for rates, and what was missing."""

    def __init__(self, warn: Callable[[Hashable, str], object]) -> None:
        """Without a past; ``warn`` is a throttled log."""
        self._warn = warn
        self._past: deque[tuple[float, Snapshot]] = deque()
        self._missing: frozenset[Input] = frozenset()
        self._told: frozenset[Input] = frozenset()

    def message(
        self,
        header: Header,
        now: float,
        snapshot: Snapshot,
        situation: Situation,
        parameters: Mapping[str, Any],
    ) -> DiagnosticArray:
        """Three statuses: input, engine, output.

        Args:
            header: with the stamp.
            now: monotonic seconds, the clock of ``snapshot.last_came``.
            snapshot: the counters.
            situation: the rest.
            parameters: values by name; the limits are among them.
        """
        least = _LEAST_PERIODS * parameters["diagnostics.period"]
        while len(self._past) > 1 and now - self._past[1][0] >= least:
            self._past.popleft()
        past_time, past = self._past[0] if self._past else (now, snapshot)
        self._past.append((now, snapshot))
        seconds = now - past_time
        missing = _missing(now, snapshot, situation, parameters["diagnostics.frame_timeout"])
        if not situation.unfit:
            self._tell_missing(missing)
        statuses = (
            _input_status(now, seconds, past, snapshot, situation, missing),
            _engine_status(past, snapshot, situation),
            _output_status(seconds, past, snapshot, situation, parameters),
        )
        for status in statuses:
            status.hardware_id = situation.device or "none"
        return DiagnosticArray(header=header, status=list(statuses))

    def _tell_missing(self, missing: Mapping[Input, str]) -> None:
        """Log once that images come and what the points need besides does not."""
        if Input.IMAGE in missing:
            return
        # Of a camera that starts, the image may come before the rest: not at the first sight.
        lasting = self._missing.intersection(missing)
        for kind in missing:
            if kind in lasting - self._told:
                self._warn(("missing", kind), f"no points: {missing[kind]}")
        self._told = (self._told | lasting).intersection(missing)
        self._missing = frozenset(missing)


def statuses_of(message: DiagnosticArray, node: str) -> dict[str, DiagnosticStatus]:
    """The statuses of the node of the full name ``node``, by what they are of: input, engine, output."""
    parts = [(status.name.rpartition(": "), status) for status in message.status]
    return {part: status for (name, _, part), status in parts if name == node.strip("/")}


def _missing(
    now: float, snapshot: Snapshot, situation: Situation, timeout: float
) -> dict[Input, str]:
    """A sentence for each input that is needed and does not come."""
    sentences = {}
    for kind, topic in situation.inputs.items():
        if kind is not Input.IMAGE and POINT_TOPICS.isdisjoint(situation.wanted):
            continue
        last = snapshot.last_came.get(kind)
        # One camera_info is enough: some publishers send no other.
        if last is not None and (kind is Input.CAMERA_INFO or now - last <= timeout):
            continue
        # How long is a value of its own: a text that changes every second is a new one to what collects them.
        since = "yet" if last is None else "any more"
        reason = (
            "nobody publishes it" if not topic.publishers else "nothing arrives from its publisher"
        )
        sentences[kind] = f"no {kind.value} {since} on {topic.name}: {reason}"
    return sentences


def _input_status(
    now: float,
    seconds: float,
    past: Snapshot,
    snapshot: Snapshot,
    situation: Situation,
    missing: Mapping[Input, str],
) -> DiagnosticStatus:
    rate = (snapshot.frames_in - past.frames_in) / seconds if seconds > 0 else 0.0
    problems = list(missing.values())
    if snapshot.drops[Drop.BAD_IMAGE.value] > past.drops[Drop.BAD_IMAGE.value]:
        problems.append(f"bad images: {snapshot.last_error}")
    elif new_troubles := _raised(past.troubles, snapshot.troubles):
        problems.append(", ".join(snapshot.words.get(kind, kind) for kind in new_troubles))
    level, text = DiagnosticStatus.OK, f"{rate:.1f} images/s"
    if situation.state == "inactive" and situation.failure:
        level, text = DiagnosticStatus.ERROR, f"not subscribed: {situation.failure}"
    elif situation.state != "active":
        text = f"not subscribed: {situation.state}"
    elif situation.unfit:
        level, text = DiagnosticStatus.WARN, "; ".join(situation.unfit)
    elif problems:
        level, text = DiagnosticStatus.WARN, "; ".join(problems)
    if situation.clock_missing:
        level, text = max(level, DiagnosticStatus.WARN), f"{NO_CLOCK}; {text}"
    image = situation.inputs.get(Input.IMAGE, InputTopic("", 0))
    values: dict[str, Any] = {"topic": image.name, "publishers": image.publishers}
    for kind, topic in situation.inputs.items():
        if kind is not Input.IMAGE:
            values[f"{kind.value} topic"] = topic.name
            values[f"{kind.value} publishers"] = topic.publishers
    for kind in situation.inputs:
        last = snapshot.last_came.get(kind)
        if last is not None:
            values[f"last {kind.value} (s ago)"] = f"{now - last:.1f}"
    values["rate in (Hz)"] = f"{rate:.2f}"
    values["images"] = snapshot.frames_in
    for reason, count in snapshot.drops.items():
        values[f"dropped: {reason}"] = count
    for trouble, count in snapshot.troubles.items():
        values[trouble] = count
    values["last error"] = snapshot.last_error
    return _status(f"{situation.name}: input", level, text, values)


def _engine_status(past: Snapshot, snapshot: Snapshot, situation: Situation) -> DiagnosticStatus:
    level, text = DiagnosticStatus.OK, situation.engine or "not loaded"
    if situation.failure:
        level, text = DiagnosticStatus.ERROR, situation.failure
    elif snapshot.failures_in_a_row:
        level = DiagnosticStatus.ERROR
        text = f"{snapshot.failures_in_a_row} failures in a row: {snapshot.last_engine_error}"
    elif situation.progress:
        # Seconds to minutes without a result: nothing is wrong, but nothing is well yet.
        level, text = DiagnosticStatus.WARN, situation.progress
    elif snapshot.drops[Drop.ENGINE_FAILED.value] > past.drops[Drop.ENGINE_FAILED.value]:
        level, text = DiagnosticStatus.WARN, f"failed: {snapshot.last_engine_error}"
    values: dict[str, Any] = {
        "state": situation.state,
        "engine": situation.engine,
        "device": situation.device,
        **situation.details,
    }
    if snapshot.inference is not None:
        p50, p95 = snapshot.inference
        values["inference p50 (ms)"] = f"{p50 * 1e3:.2f}"
        values["inference p95 (ms)"] = f"{p95 * 1e3:.2f}"
    values["memory (MiB)"] = f"{(resident_memory() or 0) / _MIB:.1f}"
    gpu = gpu_memory_used(situation.device)
    if gpu is not None:
        values["GPU memory in use (MiB)"] = f"{gpu / _MIB:.0f}"
    return _status(f"{situation.name}: engine", level, text, values)


def _output_status(
    seconds: float,
    past: Snapshot,
    snapshot: Snapshot,
    situation: Situation,
    parameters: Mapping[str, Any],
) -> DiagnosticStatus:
    rate = (snapshot.frames_out - past.frames_out) / seconds if seconds > 0 else 0.0
    level, text = DiagnosticStatus.OK, f"{rate:.1f} results/s"
    limit = parameters["diagnostics.latency_limit"]
    if situation.state == "active" and not situation.enabled:
        text = "disabled: call ~/enable"
    elif situation.state == "active" and not situation.wanted:
        text = "idle: no subscriber"
    elif snapshot.latency is not None and snapshot.latency[1] > limit and rate > 0:
        level = DiagnosticStatus.WARN
        text = f"latency p95 {snapshot.latency[1] * 1e3:.0f} ms is over {limit * 1e3:.0f} ms"
    values: dict[str, Any] = {
        "rate out (Hz)": f"{rate:.2f}",
        "results": snapshot.frames_out,
        "subscribed": ", ".join(situation.wanted),
    }
    if snapshot.latency is not None:
        p50, p95 = snapshot.latency
        values["latency p50 (ms)"] = f"{p50 * 1e3:.2f}"
        values["latency p95 (ms)"] = f"{p95 * 1e3:.2f}"
    return _status(f"{situation.name}: output", level, text, values)


def _status(name: str, level: bytes, text: str, values: Mapping[str, Any]) -> DiagnosticStatus:
    return DiagnosticStatus(
        name=name,
        level=level,
        message=text,
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )


def _raised(past: Mapping[str, int], present: Mapping[str, int]) -> list[str]:
    quiet = Trouble.NO_DEPTH.value
    return [kind for kind, count in present.items() if count > past[kind] and kind != quiet]


def gpu_memory_used(device: str) -> int | None:
    """Bytes in use on ``device`` (``cuda:N``), by everyone; None for a CPU, or where it is not told."""
    if not device.startswith("cuda"):
        return None
    from rt_panoptic_core.engines.cuda import memory_in_use

    try:
        return memory_in_use(int(device.partition(":")[2] or 0))
    except EngineError:
        return None
