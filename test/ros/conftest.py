"""Nodes in processes of their own, and a probe that talks to them over DDS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).parent
DEADLINE = 90.0
"""Seconds after which something that should happen has not. Nothing waits this long when all is well, but on
a machine that is busy with something else a process takes half a minute to import what it needs."""


class RunningNode:
    """A node's process, its log in a file."""

    def __init__(self, command: list[str], log: Path, environment: dict[str, str]) -> None:
        self._log = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_log(self, text: str, deadline: float = DEADLINE) -> None:
        """Wait until ``text`` stands in the log."""
        end = time.monotonic() + deadline
        while text not in self.log:
            assert time.monotonic() < end, f"{text!r} never came; the log:\n{self.log}"
            assert self.process.poll() is None or text in self.log, f"it ended:\n{self.log}"
            time.sleep(0.01)

    def stop(self, number: int = signal.SIGINT) -> tuple[int, float]:
        """(exit code, seconds until the process was gone) after a signal."""
        started = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"it did not end within 10 s; the log:\n{self.log}") from None
        return code, time.monotonic() - started


class Probe:
    """A node in the test's process: publishes, subscribes, calls, and waits with a deadline."""

    def __init__(self) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.node = rclpy.create_node("probe", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._publishers: dict[tuple[str, Any], Any] = {}
        self._subscriptions: list[Any] = []
        self._clients: dict[str, Any] = {}
        self._stamp = 1_000

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()

    def wait(self, done: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
        """Spin until ``done`` gives something true; that."""
        end = time.monotonic() + deadline
        while not (result := done()):
            assert time.monotonic() < end, f"it did not happen: {what}"
            self._executor.spin_once(timeout_sec=0.02)
        return result

    def subscribe(
        self, kind: Any, topic: str, qos: Any = 10, deadline: float = DEADLINE
    ) -> list[Any]:
        """The messages of ``topic`` from now on; waits for its publisher."""
        messages: list[Any] = []
        subscription = self.node.create_subscription(kind, topic, messages.append, qos)
        self._subscriptions.append(subscription)
        self.wait(lambda: self.node.count_publishers(topic), f"a publisher of {topic}", deadline)
        return messages

    def unsubscribe_all(self) -> None:
        """Listen to nothing any more."""
        while self._subscriptions:
            self.node.destroy_subscription(self._subscriptions.pop())

    def publisher(self, kind: Any, topic: str, qos: Any = 10) -> Any:
        """A publisher that a subscription has matched."""
        key = (topic, kind)
        if key not in self._publishers:
            self._publishers[key] = self.node.create_publisher(kind, topic, qos)
        publisher = self._publishers[key]
        self.wait(publisher.get_subscription_count, f"a subscription of {topic}")
        return publisher

    def ask(self, message: Any, messages: list[Any], topic: str = "/camera/image") -> Any:
        """The answer to an image, with a stamp of its own, published until it comes to ``messages``."""
        message.header.stamp.sec = self.next_stamp()
        return self.answers(message, messages, topic=topic)[0]

    def answers(
        self, message: Any, *listened: list[Any], topic: str = "/camera/image"
    ) -> list[Any]:
        """Publish ``message`` until each list has an answer of its stamp; those answers."""
        publisher = self.publisher(type(message), topic)

        def answers() -> list[list[Any]] | None:
            publisher.publish(message)
            end = [
                [m for m in messages if m.header.stamp == message.header.stamp]
                for messages in listened
            ]
            return end if all(end) else None

        return [found[0] for found in self.wait(answers, f"answers to {topic}")]

    def next_stamp(self) -> int:
        """A stamp in whole seconds that no message had before."""
        self._stamp += 1
        return self._stamp

    def call(
        self,
        kind: Any,
        service: str,
        request: Any,
        deadline: float = DEADLINE,
        *,
        again: bool = True,
    ) -> Any:
        """The response.

        A client sees a service before the service sees the client: an answer in between is lost, so that
        it is asked ``again`` where asking twice does no harm.
        """
        client = self._clients.get(service)
        if client is None:
            client = self._clients[service] = self.node.create_client(kind, service)
        self.wait(client.service_is_ready, f"service {service}", deadline)
        end = time.monotonic() + deadline
        while True:
            future = client.call_async(request)
            patience = time.monotonic() + (3.0 if again else deadline)
            self.wait(
                lambda future=future, patience=patience: (
                    future.done() or time.monotonic() > min(end, patience)
                ),
                service,
                deadline + 5,
            )
            if future.done():
                return future.result()
            client.remove_pending_request(future)
            assert time.monotonic() < end, f"no answer of {service}"

    def set_parameter(self, name: str, value: Any, node: str = "/rt_panoptic") -> Any:
        """SetParametersResult of one parameter."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]
        )
        return self.call(SetParameters, f"{node}/set_parameters", request).results[0]

    def get_parameter(self, name: str, node: str = "/rt_panoptic") -> Any:
        from rcl_interfaces.srv import GetParameters
        from rclpy.parameter import parameter_value_to_python

        response = self.call(
            GetParameters, f"{node}/get_parameters", GetParameters.Request(names=[name])
        )
        return parameter_value_to_python(response.values[0])

    def state(self, node: str = "/rt_panoptic") -> str:
        from lifecycle_msgs.srv import GetState

        return str(self.call(GetState, f"{node}/get_state", GetState.Request()).current_state.label)

    def transition(self, label: str, node: str = "/rt_panoptic") -> bool:
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        request = ChangeState.Request(transition=Transition(label=label))
        service = f"{node}/change_state"
        # After get_state was answered, the two processes know each other.
        self.state(node)
        return bool(self.call(ChangeState, service, request, again=False).success)

    def wait_active(self, node: str = "/rt_panoptic") -> None:
        end = time.monotonic() + 60
        while (state := self.state(node)) != "active":
            assert time.monotonic() < end, f"still {state}"


class Diagnosis:
    """The newest /diagnostics of one node, by status and key."""

    def __init__(self, probe: Probe, node: str = "rt_panoptic") -> None:
        from diagnostic_msgs.msg import DiagnosticArray

        self._node = node
        self.messages: list[Any] = probe.subscribe(DiagnosticArray, "/diagnostics", 50)

    def status(self, part: str) -> Any:
        """The newest status ``part`` of the node, or None."""
        for message in reversed(self.messages):
            for status in message.status:
                if status.name == f"{self._node}: {part}":
                    return status
        return None

    def value(self, part: str, key: str) -> str:
        status = self.status(part)
        if status is None:
            return ""
        return next((v.value for v in status.values if v.key == key), "")

    def count(self, part: str, key: str) -> int:
        return int(self.value(part, key) or 0)


@pytest.fixture(scope="module")
def probe() -> Iterator[Probe]:
    found = Probe()
    yield found
    found.close()


@pytest.fixture
def diagnosis(probe: Probe) -> Callable[..., Diagnosis]:
    return lambda node="rt_panoptic": Diagnosis(probe, node)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RunningNode]]:
    """start(*arguments, module=None, script=…, **environment): the node with the fake engine, or another."""
    nodes: list[RunningNode] = []
    folder = tmp_path_factory.mktemp("logs")

    def start(
        *arguments: str,
        module: str | None = None,
        script: str = "node_with_fake_engine.py",
        **environment: str,
    ) -> RunningNode:
        program = ["-m", module] if module else [str(HERE / script)]
        ros = ["--ros-args", *arguments] if arguments else []
        environment.setdefault("ROS_LOG_DIR", str(folder / "ros"))
        nodes.append(RunningNode([*program, *ros], folder / f"node{len(nodes)}.log", environment))
        return nodes[-1]

    yield start
    # One that is killed leaves its shared memory behind, 64 MiB and more of it.
    for node in nodes:
        node.process.terminate()
    for node in nodes:
        try:
            node.process.wait(10)
        except subprocess.TimeoutExpired:
            node.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def picture() -> Callable[..., np.ndarray]:
    """picture(class_id, height, width, car): RGB whose red is the class, with a car in the box car."""

    def picture(
        class_id: int = 0,
        height: int = 8,
        width: int = 12,
        car: tuple[int, int, int, int] | None = (2, 1, 5, 4),
    ) -> np.ndarray:
        pixels = np.zeros((height, width, 3), dtype=np.uint8)
        pixels[..., 0] = class_id
        if car is not None:
            x1, y1, x2, y2 = car
            pixels[y1:y2, x1:x2] = (13, 255, 0)
        return pixels

    return picture
