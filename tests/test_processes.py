"""Work shared between processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
