"""Processes: how a node's ends, and work shared between several."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spinemat_bringup.processes import in_processes

ENDLESS = """
import signal

def work(_number):
    print("begun", flush=True)
    signal.pause()
"""
MAIN = """
from endless import work
from spinemat_bringup.processes import in_processes

if __name__ == "__main__":
    in_processes(work, ([1, 2],), 2)
"""
NODE = """
import os
import signal
import sys
from spinemat_ros import spin

def again():
    os.kill(os.getpid(), signal.SIGTERM)

class Node:
    def close(self):
        again()
        print("closed", flush=True)

    def destroy_node(self):
        print("destroyed", flush=True)

def loop(_node, _executor, stopper):
    again()
    while not stopper:
        pass
    again()  # a terminal and what launched it both pass Ctrl-C on
    while sys.argv[1] == "stuck":
        again()

spin.make_executor = lambda node: None
spin.run(Node, [], loop)
again()
print("ended", flush=True)
"""


@pytest.mark.parametrize(
    ("how", "status", "last"), [("well", 0, ["ended"]), ("stuck", 128 + signal.SIGTERM, [])]
)
def test_a_node_that_is_told_to_end_again_still_closes(
    how: str, status: int, last: list[str]
) -> None:
    line = [sys.executable, "-c", NODE, how]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["closed", "destroyed", *last], done.stderr
    assert done.returncode == status


def test_results_come_in_order() -> None:
    assert in_processes(pow, ([2, 3, 4], [10, 2, 0]), 2) == [1024, 9, 1]


def test_workers_end_with_the_process_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS)
    (tmp_path / "main.py").write_text(MAIN)
    with subprocess.Popen(
        [sys.executable, "main.py"], cwd=tmp_path, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == [b"begun\n"] * 2
        process.kill()
        # they have its standard output open: it ends when the last of them has ended
        rest, _ = process.communicate(timeout=60.0)
    assert rest == b""
