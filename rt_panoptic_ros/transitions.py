"""Lifecycle transitions beside the executor, so that building an engine for minutes stops nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode
from rclpy.task import Future

Result = TypeVar("Result")

_SERVICES = (
    "_service_change_state",
    "_service_get_state",
    "_service_get_available_states",
    "_service_get_available_transitions",
    "_service_get_transition_graph",
)


class Transitions:
    """Runs the transitions of one lifecycle node one after the other on a thread of their own.

    rclpy answers ``~/change_state`` within its callback: until on_configure returns, a single-threaded
    executor answers nothing, not even ``~/get_state``. Here the answer waits and the executor goes on.
    """

    def __init__(self, node: LifecycleNode) -> None:
        """Take over the transitions of ``node``."""
        self._node = node
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        # Node's default group is mutually exclusive: a transition under way would hold up all of it.
        group = ReentrantCallbackGroup()
        for name in _SERVICES:
            entity = getattr(node, name, None)
            if entity is not None:
                entity.callback_group = group
                group.add_entity(entity)
        service = getattr(node, "_service_change_state", None)
        if service is not None:
            blocking = service.callback

            async def change_state(request: Any, response: Any) -> Any:
                return await self._aside(lambda: self._answer(blocking, request, response))

            service.callback = change_state

    def _answer(self, blocking: Callable[[Any, Any], Any], request: Any, response: Any) -> Any:
        with self._lock:
            reason = _impossible(self._node._state_machine, request.transition)
            if reason is None:
                return blocking(request, response)
            self._node.get_logger().warning(reason)
            response.success = False
            return response

    def _aside(self, work: Callable[[], Any]) -> Future:
        future: Future = Future()

        def run() -> None:
            future.set_result(work())
            executor = self._node.executor
            if executor is not None:
                executor.wake()

        self._start(run)
        return future

    def run(self, work: Callable[[], object]) -> None:
        """Call ``work``, which triggers transitions, on a thread; errors are logged."""

        def guarded() -> None:
            with self._lock:
                try:
                    work()
                except Exception as error:  # noqa: BLE001 - rclpy raises its C errors
                    self._node.get_logger().error(f"transition failed: {error}")

        self._start(guarded)

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name="transition", daemon=True)
        self._threads = [known for known in self._threads if known.is_alive()]
        self._threads.append(thread)
        thread.start()

    def join(self, timeout: float) -> bool:
        """Whether no transition is under way any more after at most ``timeout`` seconds."""
        for thread in self._threads:
            thread.join(timeout)
        return not any(thread.is_alive() for thread in self._threads)


def _impossible(machine: Any, asked: Any) -> str | None:
    """Why the state of ``machine`` has no transition ``asked`` (by label, else by number); None if it has.

    rclpy says nothing of a label, and of a number in which line of C code it failed.
    """
    possible = machine.available_transitions
    if asked.label:
        found, name = any(label == asked.label for _, label, *_ in possible), asked.label
    else:
        found = any(number == asked.id for number, *_ in possible)
        labels = {number: label for number, label, *_ in machine.transition_graph}
        name = f"{labels.get(asked.id, 'unknown')} ({asked.id})"
    if found:
        return None
    choice = ", ".join(f"{label} ({number})" for number, label, *_ in possible)
    return (
        f"transition {name} is not possible: the node is {machine.current_state[1]}, possible from there: "
        f"{choice or 'none'}"
    )


def on_executor(node: LifecycleNode, work: Callable[[], Result]) -> Result:
    """What ``work`` returns, called on the thread that spins ``node``; here where nothing spins it.

    Subscriptions and publishers come and go there only: rclpy's executor does not expect one to vanish
    between being found ready and being served.

    Raises:
        Exception: what ``work`` raises.
    """
    executor = node.executor
    if executor is None or threading.current_thread() is threading.main_thread():
        return work()
    done = threading.Event()
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except BaseException as error:  # noqa: BLE001 - raised again where it was asked for
            outcome.append((None, error))
        finally:
            done.set()

    executor.create_task(run)
    while not done.wait(0.5):
        if not node.context.ok():
            raise RuntimeError("the process is shutting down")
    result, error = outcome[0]
    if error is not None:
        raise error
    return result
