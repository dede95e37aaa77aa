"""Starting, watching and ending the processes of a graph."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_prefix

from spinemat_bringup.graph import NodeSpec

_PR_SET_PDEATHSIG = 1  # of prctl(2)
END_WAIT = 15.0  # s for a process to end after SIGINT: a recorder closes its bag meanwhile
ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MUJOCO_GL": "disabled",  # no node draws; looking for a library that could takes a second
}


def follow_parent() -> list[str]:
    """Return what to put before a command so that it gets SIGINT when its parent dies.

    However that dies, SIGKILL included; and nothing where setpriv (util-linux) is missing. The
    parent is the thread that starts it.
    """
    found = shutil.which("setpriv")
    return [found, "--pdeathsig", "INT"] if found else []


def command(spec: NodeSpec, namespace: str) -> list[str]:
    """Return the command that starts a node, as `ros2 run` would."""
    program = Path(get_package_prefix(spec.package), "lib", spec.package, spec.executable)
    line = [str(program), "--ros-args", "-r", f"__ns:={namespace}", "-r", f"__node:={spec.name}"]
    line += ["--enclave", f"{namespace}/{spec.name}"]  # means nothing unless security is on
    for name, other in spec.remappings.items():
        line += ["-r", f"{name}:={other}"]
    for key, value in spec.parameters.items():
        line += ["-p", f"{key}:={_yaml(value)}"]
    return line


def _yaml(value: Any) -> str:
    return json.dumps(value)  # JSON is YAML: strings stay strings, lists stay lists


class Processes:
    """The processes of one graph, each with a log file.

    A context manager: they are ended when it is left, whatever happened. They run in sessions of
    their own, so Ctrl-C in the terminal reaches only the command line, which then stops the mat
    before it ends them.
    """

    def __init__(self, nodes: Sequence[NodeSpec], namespace: str, log_dir: Path) -> None:
        self._nodes = nodes
        self._namespace = namespace
        self.log_dir = log_dir
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Processes:
        """Start all nodes in order."""
        self.log_dir.mkdir(parents=True, exist_ok=True)
        try:
            for spec in self._nodes:
                (self.log_dir / f"{spec.name}.log").unlink(missing_ok=True)
                self._start(spec)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End all nodes."""
        self.end()

    def _start(self, spec: NodeSpec) -> None:
        environment = os.environ | ENVIRONMENT | {"ROS_LOG_DIR": str(self.log_dir)}
        with (self.log_dir / f"{spec.name}.log").open("ab") as log:
            self._running[spec.name] = subprocess.Popen(
                [*follow_parent(), *command(spec, self._namespace)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def kill(self, name: str, by: signal.Signals = signal.SIGKILL) -> None:
        """End a node's process by a signal, and wait until it has ended."""
        self._running[name].send_signal(by)
        self._running[name].wait()

    def restart(self, name: str) -> None:
        """Start a node again that has ended."""
        self._start(next(spec for spec in self._nodes if spec.name == name))

    def add(self, spec: NodeSpec) -> None:
        """Start one more node."""
        self._nodes = [*self._nodes, spec]
        self._start(spec)

    def freeze(self, name: str) -> None:
        """Stop a node's process where it is (SIGSTOP)."""
        self._running[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let a frozen process go on (SIGCONT)."""
        self._running[name].send_signal(signal.SIGCONT)

    @property
    def pids(self) -> dict[str, int]:
        """Process id of each node."""
        return {name: process.pid for name, process in self._running.items()}

    def dead(self) -> dict[str, str]:
        """Return the nodes that have ended and the last line each of them said."""
        return {
            name: self.last_words(name)
            for name, process in self._running.items()
            if process.poll() is not None
        }

    def last_words(self, name: str) -> str:
        """Return the last line that a node wrote."""
        text = (self.log_dir / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        status = self._running[name].poll()
        return lines[-1] if lines else f"ended with status {status} and said nothing"

    def end(self) -> None:
        """Ask all nodes to end, the simulator last; kill what does not listen."""
        order = sorted(self._running.items(), key=lambda item: item[0] == "mat_simulator")
        for _, process in order:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.send_signal(signal.SIGCONT)  # it may be frozen
        deadline = time.monotonic() + END_WAIT
        for _, process in order:
            try:
                process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _end_with_parent() -> None:
    """As `follow_parent`, for a process that is not started by a command."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:  # Linux
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def in_processes(
    work: Callable[..., Any], over: Sequence[Iterable[Any]], jobs: int | None
) -> list[Any]:
    """Call `work` for each of `over` in parallel processes of one thread; show how far it is.

    The processes end when this one does, however that ends.

    Args:
        work: importable from a module, as processes begin anew.
        over: one iterable per argument.
        jobs: processes; None: one per core.
    """
    from spinemat_bringup.cli_common import share_bar  # the launch files' Python may lack rich

    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    context = get_context("spawn")
    with ProcessPoolExecutor(jobs or os.cpu_count(), context, _end_with_parent) as pool:
        running = [pool.submit(work, *each) for each in zip(*over, strict=False)]
        try:
            with share_bar("working", len(running)) as show:
                for done, future in enumerate(as_completed(running), 1):
                    future.result()
                    show(done)
        except BaseException:  # of one of them, or Ctrl-C: the others need not begin
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in running]
