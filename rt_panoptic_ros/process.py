"""One node in one process: start, spin, and a clean end within two seconds of being told to."""

from __future__ import annotations

import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from rt_panoptic_core.allocator import keep_freed_memory
from rt_panoptic_core.errors import ConfigError, PanopticError
from rt_panoptic_ros.core_log import core_log_to
from rt_panoptic_ros.fastdds import use_profile

_SECONDS_TO_STOP = 1.0

_LONGEST_SLEEP = 0.5
"""Seconds after which it is looked whether the context was ended."""

_NAMES = (
    "it must be FROM:=TO, names of letters, digits and underscores that begin with no digit; those of "
    "topics, services and namespaces have / between their parts"
)


def run(make_node: Callable[[], Any], arguments: Sequence[str] | None = None) -> int:
    """Make a node and spin it until SIGINT, SIGTERM or shutdown.

    The node's ``start()`` is called before, ``stop(timeout)`` after spinning: it says whether its threads
    ended. Where one is inside a library's call that takes longer (an engine build), the process ends without
    it: nothing that it holds outlives the process, and files are only ever replaced when complete.

    Returns:
        0 at a requested end; 1 where the node has an attribute ``failed`` that is true by then; 2 where it
        refused its parameters, or rclpy its arguments.
    """
    node = executor = None
    stopped, code = True, 0
    ready = False
    interrupts = _Interrupts()
    # Before rclpy's own handlers, which call this one.
    signal.signal(signal.SIGINT, interrupts)
    try:
        try:
            use_profile()
            keep_freed_memory()
            _init(arguments)
            ready = True
            node = make_node()
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            with core_log_to(node.get_logger()):
                node.start()
                # From here on rclpy's own handler ends the spinning: an interrupt would only tear apart
                # whatever is being done at that moment.
                interrupts.armed = False
                _spin(executor, node)
        except PanopticError as error:
            interrupts.armed = False
            print(f"error: {error}", file=sys.stderr)
            code = 2
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
        except Exception:
            # A signal ends the context at once: what is being made of it then fails in many ways.
            if not interrupts.came and (not ready or rclpy.ok()):
                raise
        interrupts.armed = False
    except KeyboardInterrupt:
        # SIGINT right after SIGTERM: it came between the lines above.
        pass
    # A second signal while the end is under way changes nothing.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if node is not None:
        stopped = node.stop(_SECONDS_TO_STOP)
    return _end(code or int(getattr(node, "failed", False)), node, executor, stopped)


def _init(arguments: Sequence[str] | None) -> None:
    """Initialize rclpy.

    Raises:
        ConfigError: an argument after ``--ros-args``, or a parameter file, is refused; or there is no
            folder for the log.
    """
    try:
        rclpy.init(args=list(arguments) if arguments is not None else None)
    # RCLError and UnknownROSArgsError, which only a private module of rclpy has by name.
    except RuntimeError as error:
        # Its words without the lines of C code that they come from.
        words = re.sub(r", at \S+:\d+", "", " ".join(str(error).split()))
        words = words.removeprefix("failed to initialize rcl: ")
        if re.search(r"log(ging)? directory|\.log for writing", words):
            words = words.removeprefix("failed to initialize logging: ")
            words = re.sub(r": (\d+)$", lambda found: f": {os.strerror(int(found[1]))}", words)
            raise ConfigError(
                f"the log folder cannot be written: {words}; set ROS_LOG_DIR to one that can, or HOME, whose "
                ".ros/log it is otherwise"
            ) from error
        if "log level" in words:
            words += "; it must be debug, info, warn, error or fatal"
        if "remap rule" in words:
            # What follows is of the parser's own parts.
            words = f"{words.partition('. Error: ')[0]}; {_NAMES}"
        raise ConfigError(f"the arguments after --ros-args are refused: {words}") from error


class _Interrupts:
    """Handler of SIGINT that interrupts the start once, and neither the spinning nor the ending.

    Attributes:
        armed: the next one interrupts.
        came: one has interrupted.
    """

    def __init__(self) -> None:
        self.armed = True
        self.came = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.armed:
            self.armed = False
            self.came = True
            raise KeyboardInterrupt


def _spin(executor: SingleThreadedExecutor, node: Any) -> None:
    """Spin; what a callback raises is logged and ends nothing."""
    while executor.context.ok():
        try:
            # rclpy wakes the executor before it ends the context: one that looks in between would sleep on.
            executor.spin_once(_LONGEST_SLEEP)
        except (KeyboardInterrupt, ExternalShutdownException):
            raise
        # rclpy would leave spin() for good: one bad message must not do that.
        except Exception:  # noqa: BLE001
            if executor.context.ok():
                node.get_logger().error(f"a callback failed:\n{traceback.format_exc()}")


def _end(code: int, node: Any, executor: Any, stopped: bool) -> int:
    if not stopped:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    if executor is not None:
        executor.shutdown()
    if node is not None:
        node.destroy_node()
    rclpy.try_shutdown()
    return code
