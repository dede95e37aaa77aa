"""Long actions as coroutines that cost nothing while they wait.

rclpy's executors poll a coroutine that awaits a pending future as fast as they can: a node with
one running goal then burns a whole core. A script is a coroutine too, but it is resumed by the
future it waits for, and by nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from enum import Enum
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.task import Future


class Ending(Enum):
    """How a goal ends."""

    SUCCEEDED = "succeed"
    ABORTED = "abort"
    CANCELED = "canceled"


class wait(Awaitable[Any]):
    """Suspend a script until `future` is done; the value is its result."""

    def __init__(self, future: Future) -> None:
        self._future = future

    def __await__(self) -> Generator[Future, None, Any]:
        """Hand the future to whoever steps the script."""
        if not self._future.done():
            yield self._future
        return self._future.result()


def start(script: Coroutine[Future, None, None]) -> None:
    """Run a script up to its first wait; it goes on whenever what it waits for is done."""

    def step(_done: Future | None = None) -> None:
        try:
            future = script.send(None)
        except StopIteration:
            return
        future.add_done_callback(step)

    step()


Script = Callable[[ServerGoalHandle], Coroutine[Future, None, tuple[Ending, Any]]]


class ScriptServer:
    """An action server whose goals are scripts.

    Every goal is accepted, so that a refusal can carry its reason in the result, and every cancel
    is granted; the script looks at `handle.is_cancel_requested`.

    Args:
        node: it belongs to.
        action: type of the action.
        name: of the action.
        script: runs one goal and returns how it ends and its result.
        result_timeout: s for which results are kept.
    """

    def __init__(
        self, node: Node, action: Any, name: str, script: Script, result_timeout: int = 900
    ) -> None:
        self._node, self._action, self._name, self._script = node, action, name, script
        self._server = ActionServer(
            node,
            action,
            name,
            lambda _handle: action.Result(),
            goal_callback=lambda _goal: GoalResponse.ACCEPT,
            handle_accepted_callback=lambda handle: start(self._run(handle)),
            cancel_callback=lambda _handle: CancelResponse.ACCEPT,
            result_timeout=result_timeout,
        )

    async def _run(self, handle: ServerGoalHandle) -> None:
        # rclpy has no public way to mark a goal as executing without handing it a callback that
        # ends it: `execute` does this, and then calls the callback
        handle._update_state(rclpy_implementation.GoalEvent.EXECUTE)
        try:
            ending, result = await self._script(handle)
        except Exception as error:  # the client gets an answer whatever happens
            self._node.get_logger().error(f"{self._name}: {error!r}")
            ending, result = Ending.ABORTED, self._action.Result(message=f"internal: {error!r}")

        def finish(goal: ServerGoalHandle) -> Any:
            getattr(goal, ending.value)()
            return result

        self._server.notify_execute(handle, finish)
