"""Running a node: one process, one thread, events as they arrive.

`EventsExecutor` has the least jitter of rclpy's executors here, but its `spin()` without a
time-out dispatches nothing, so every node turns the same `spin_once` loop. The choice of the
executor lives in this file alone.
"""

from __future__ import annotations

import gc
import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType

import rclpy
from rclpy.experimental import EventsExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from spinemat.errors import InvalidInput

__all__ = ["Stopper", "make_executor", "run"]


AGAIN = 1.0  # s after a signal in which another is the same one: a terminal and `ros2 launch`
# both pass Ctrl-C on (engineering choice)


class Stopper:
    """Becomes true on SIGINT or SIGTERM; a second signal, later, ends what is stuck.

    Attributes:
        stopped: somebody wants the process to end.
        closing: it ends, and no signal cuts that off.
    """

    def __init__(self) -> None:
        self.stopped = self.closing = False
        self._since = 0.0  # monotonic time of the first signal, s
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if not self.stopped:
            self.stopped, self._since = True, time.monotonic()
        elif not self.closing and time.monotonic() > self._since + AGAIN:
            sys.exit(128 + number)

    @staticmethod
    def over() -> None:
        """What is left is the interpreter's own end: a signal that comes late cuts off nothing."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def __bool__(self) -> bool:
        return self.stopped


def make_executor(node: Node) -> EventsExecutor:
    """Return the executor that all nodes use, with `node` in it."""
    executor = EventsExecutor(context=node.context)
    executor.add_node(node)
    return executor


def run(
    make_node: Callable[[], Node],
    args: Sequence[str] | None = None,
    loop: Callable[[Node, EventsExecutor, Stopper], None] | None = None,
) -> None:
    """Run one node until SIGINT or SIGTERM; its `close()` is called at the end if it has one.

    A second signal ends a start or a loop that is stuck; `close()` is waited for, as what it keeps
    would be lost.

    Wrong input at start ends the process with status 2 and one line on standard error.

    Args:
        make_node: builds the node once rclpy is up.
        args: command line, as rclpy takes it.
        loop: turns the executor until the stopper is true; the default just waits for events.
    """
    rclpy.init(
        args=None if args is None else list(args), signal_handler_options=SignalHandlerOptions.NO
    )
    stopper = Stopper()
    node: Node | None = None
    try:
        node = make_node()
        executor = make_executor(node)
        gc.collect()
        gc.freeze()
        (loop or _wait_for_events)(node, executor, stopper)
    except InvalidInput as error:
        print(f"{make_node.__name__}: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    finally:
        stopper.closing = True
        close = getattr(node, "close", None)
        if close is not None:
            close()
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
        stopper.over()


def _wait_for_events(_node: Node, executor: EventsExecutor, stopper: Stopper) -> None:
    while not stopper:
        executor.spin_once(timeout_sec=0.1)
