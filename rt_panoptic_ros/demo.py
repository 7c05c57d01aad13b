"""The whole thing at work: camera, panoptic node and recorder as processes that talk over DDS.

scripts/demo sets up what is missing and starts this.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SIZE = "384x768"  # of the generated street: what the shipped models were trained for
_FPS = 10.0
# Images of the street that are drawn before the recording, so that it is not on the node's cores meanwhile;
# at their size so many take 270 MB.
_DRAWN_AHEAD = 300
_PATIENCE = 600.0  # seconds for the engine: TensorRT builds for minutes, once
# Seconds for the source to start: the first time, on a busy machine, imports alone take twenty.
_FIRST_IMAGE = 120.0
_NO_IMAGE = 20.0  # seconds without an end of the recording: the images stopped
_STOP = 5.0
_IMAGE = "/camera/image"


class DemoError(Exception):
    """One line for the person at the terminal."""


@dataclass(frozen=True)
class Camera:
    """How the images come.

    Attributes:
        command: arguments of Python for the process that publishes them.
        node_arguments: ROS arguments of the panoptic node that fit it.
        sim_time: whether the stamps are of /clock.
        description: in a word or two.
        waits: it publishes nothing before the node listens, so it can be started with it.
    """

    command: list[str]
    node_arguments: list[str]
    sim_time: bool
    description: str
    waits: bool = False


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="Run the panoptic node on a stream of camera images and record what it sees.",
    )
    parser.add_argument(
        "--source",
        default="generated",
        help="a folder of images, a video, a camera device (0, /dev/video0), a rosbag; "
        "default: a drive through a generated street",
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="to record (20)")
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="(demo_output)")
    parser.add_argument(
        "--model", default="", help="a checkpoint, or a name of `rt-panoptic models`"
    )
    parser.add_argument("--engine", default="", help="auto, openvino, tensorrt, pytorch (auto)")
    parser.add_argument("--size", default="", help="resize the images first: HEIGHTxWIDTH")
    parser.add_argument("--fps", type=float, default=0.0, help="images a second (the source's own)")
    parser.add_argument("--seed", type=int, default=0, help="of the generated street (0)")
    parsed = parser.parse_args(arguments)
    if parsed.seconds <= 0:
        parser.error(f"--seconds {parsed.seconds:g}: it must be above 0")
    if not 0 <= parsed.fps <= 1000:
        parser.error(f"--fps {parsed.fps:g}: it must be 0 to 1000")
    return parsed


def camera(options: argparse.Namespace) -> Camera:
    """The process that plays ``options.source``.

    Raises:
        DemoError: there is no such source.
        BagError: the bag has no images, or several topics of them.
    """
    from rt_panoptic_core.bags.storage import is_bag

    source = str(options.source)
    path = Path(source)
    if is_bag(path):
        return _bag(path, options)
    device = Path(f"/dev/video{source}") if source.isdigit() else path
    if source != "generated" and not device.exists():
        raise DemoError(
            f"--source {source}: there is no {device}; it takes a folder of images, a "
            "video, a camera device or a rosbag"
        )
    parameters: dict[str, Any] = {"source": source if source == "generated" else str(path)}
    size = options.size or (_SIZE if source == "generated" else "")
    parameters |= {"size": size} if size else {}
    fps = options.fps or (_FPS if source == "generated" else 0.0)
    parameters |= {"rate": float(fps)} if fps else {}
    parameters["seed"] = options.seed
    node_arguments = ["-r", f"image:={_IMAGE}"]
    if source == "generated":
        # One more than are recorded: the first is the one that the node was waited for with.
        parameters["ahead"] = min(math.ceil(options.seconds * fps) + 1, _DRAWN_AHEAD)
        node_arguments += _parameters({"image_size": size})
    command = ["-m", "rt_panoptic_ros.image_source", "--ros-args", "-r", f"image:={_IMAGE}"]
    return Camera(
        command + _parameters(parameters),
        node_arguments,
        sim_time=False,
        description="a generated street" if source == "generated" else source,
        waits=source == "generated",
    )


def _bag(path: Path, options: argparse.Namespace) -> Camera:
    from rt_panoptic_core.bags.reader import BagReader
    from rt_panoptic_ros.bag_camera import read_camera

    if options.size or options.fps:
        raise DemoError(
            "--size and --fps do not apply to a rosbag: it is played as it was recorded"
        )
    with BagReader(path) as bag:
        found = read_camera(bag, option="bag.launch.py's image:=TOPIC")
    parameters: dict[str, Any] = {"bag": str(path), "loop": True, "wait_for": found.topic}
    if found.results:
        # They would mix with those of the node that runs.
        parameters["topics"] = found.others
    command = ["-m", "rt_panoptic_ros.bag_player", "--ros-args", *_parameters(parameters)]
    image = "image/compressed" if found.is_compressed else "image"
    arguments = ["-r", f"{image}:={found.topic}"]
    arguments += _parameters({"use_sim_time": True})
    arguments += _parameters({"input.transport": "compressed"}) if found.is_compressed else []
    return Camera(command, arguments, True, str(path))


def _parameters(values: dict[str, Any]) -> list[str]:
    """ROS arguments that set parameters; texts are quoted, so that a camera "0" stays a text."""
    words: list[str] = []
    for name, value in values.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if isinstance(value, str):
            text = "'" + value.replace("'", "''") + "'"
        words += ["-p", f"{name}:={text}"]
    return words


class Process:
    """A child with its output in a log file; ended at the latest when the block is left."""

    def __init__(self, name: str, arguments: list[str], log: Path) -> None:
        self.name = name
        self._log = log
        with log.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C is for the recorder, which then ends the others in their order.
                start_new_session=True,
            )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def ended(self) -> bool:
        """Whether it is gone already."""
        return self._process.poll() is not None

    def check(self) -> None:
        """Raise DemoError with its last words if it is gone."""
        if self.ended:
            raise DemoError(f"the {self.name} ended: {self.last_words()}")

    def says(self) -> str:
        """The last line that it logged, without level, time and name."""
        lines = self._lines()
        return lines[-1].rpartition("]: ")[2].strip() if lines else "starting"

    def last_words(self) -> str:
        """The last error that it logged, else its last line."""
        lines = self._lines()
        errors = [line for line in lines if "ERROR" in line or "error:" in line]
        last = (errors or lines or ["it said nothing"])[-1].strip()
        return f"{last} (log: {self._log})"

    def _lines(self) -> list[str]:
        text = self._log.read_text(errors="replace")
        return [line for line in text.splitlines() if line.strip()]


class _Status:
    """One line that says what is going on; where it is not a terminal, one for each thing that begins."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last = ""

    def __enter__(self) -> _Status:
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def show(self, words: str) -> None:
        """Show ``what: details``."""
        if not self._terminal:
            words = words.partition(":")[0]
        if words != self._last:
            self._last = words
            if self._terminal:
                width = shutil.get_terminal_size().columns
                print(f"\r\033[K{words[: width - 1]}", end="", file=sys.stderr, flush=True)
            else:
                print(f"demo: {words}", file=sys.stderr, flush=True)


class _Show:
    """The recorder in this process, spun until things happen; the others watched meanwhile."""

    def __init__(self, recorder: Any, executor: Any, status: _Status) -> None:
        self.recorder = recorder
        self.processes: list[Process] = []
        self._executor = executor
        self._status = status

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def until(
        self,
        condition: Callable[[], bool],
        patience: Callable[[], float],
        tell: Callable[[], str],
        late: Callable[[], str],
    ) -> None:
        """Spin until ``condition``, telling how it goes.

        Raises:
            DemoError: a process ended, the node failed, or ``patience`` seconds have passed: ``late``.
        """
        start = time.monotonic()
        while not condition():
            self._executor.spin_once(timeout_sec=0.05)
            self._status.show(tell())
            for process in self.processes:
                process.check()
            if self.recorder.report.failed:
                raise DemoError(f"the node failed: {self.recorder.report.engine_status}")
            if time.monotonic() > start + patience():
                raise DemoError(late())


def run(options: argparse.Namespace) -> str:
    """The summary of a recording.

    Raises:
        DemoError: something did not start, with its own words.
        PanopticError: the source is not usable.
    """
    images = camera(options)
    video: Path = options.output / "overlay.mp4"
    logs: Path = options.output / "log"
    logs.mkdir(parents=True, exist_ok=True)
    from rt_panoptic_ros.fastdds import use_profile
    from rt_panoptic_ros.releases import keep_to_this_machine

    # Neither a robot's nodes nor those of a second demo are met.
    keep_to_this_machine(1 + os.getpid() % 100)
    use_profile()
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.parameter import Parameter

    from rt_panoptic_ros.recorder import Recorder

    parameters = {"diagnostics.period": 0.5, "overlay.legend": True, "overlay.fps": True}
    parameters |= {name: getattr(options, name) for name in ("model", "engine")}
    node_command = ["-m", "rt_panoptic_ros.panoptic_node", "--ros-args", *images.node_arguments]
    node_command += _parameters({name: value for name, value in parameters.items() if value != ""})
    recorder_parameters = {
        "output": str(video),
        "seconds": options.seconds,
        "fps": 30.0,
        "use_sim_time": images.sim_time,
    }
    rclpy.init(args=[])
    with ExitStack() as stack:
        stack.callback(rclpy.try_shutdown)
        node = stack.enter_context(Process("node", node_command, logs / "node.log"))
        overrides = [Parameter(name, value=value) for name, value in recorder_parameters.items()]
        recorder = Recorder(parameter_overrides=overrides)
        stack.callback(recorder.destroy_node)
        stack.callback(recorder.discard)
        executor = SingleThreadedExecutor()
        stack.callback(executor.shutdown)
        executor.add_node(recorder)
        show = _Show(recorder, executor, stack.enter_context(_Status()))
        show.processes.append(node)

        def start_source() -> Process:
            source = stack.enter_context(Process("source", images.command, logs / "source.log"))
            show.processes.append(source)
            return source

        early = start_source() if images.waits else None
        report = recorder.report
        show.until(
            lambda: report.state == "active",
            lambda: _PATIENCE,
            lambda: f"starting the node: {report.engine_status}",
            lambda: f"the node is not ready after {_PATIENCE:.0f} s: {node.last_words()}",
        )
        source = early or start_source()
        show.until(
            lambda: recorder.frames > 0,
            # Once images arrive, it is the engine that is waited for; a street is drawn as fast as it goes.
            lambda: _PATIENCE if report.images or images.waits else _FIRST_IMAGE,
            lambda: (
                f"waiting for the first result: {report.engine_status}"
                if report.images
                else f"waiting for the first image of {images.description}: {source.says()}"
            ),
            lambda: f"no result came: {source.last_words()}",
        )
        # Interrupted, what was recorded until then is wanted.
        with suppress(KeyboardInterrupt):
            show.until(
                recorder.finished.is_set,
                lambda: options.seconds + _NO_IMAGE,
                lambda: (
                    f"recording: {recorder.seconds:.0f} of {options.seconds:g} s, "
                    f"{recorder.frames} frames"
                ),
                lambda: f"the images stopped: {source.last_words()}",
            )
        # The node's counts come twice a second: the next are the last ones of the recording.
        show.spin(0.6)
        summary = recorder.finish()
    return f"{images.description}: {summary}; {video} {video.with_suffix('.png')}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo: 0, or 1 with one line about what went wrong."""
    options = parse(arguments)
    # Being told to end must end the children too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from rt_panoptic_core.errors import PanopticError

    try:
        print(run(options))
    except (DemoError, PanopticError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
