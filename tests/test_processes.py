"""Work shared between processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from spinemat_bringup.processes import in_processes

# each worker tells its process id and goes on for ever
WORK = """
import os, time
from pathlib import Path

def work(folder, name):
    Path(folder, name).write_text(str(os.getpid()))
    while True:
        time.sleep(1.0)
"""
MAIN = """
import sys
from spinemat_bringup.processes import in_processes
from endless import work

if __name__ == "__main__":
    in_processes(work, ([sys.argv[1]] * 2, ["one", "two"]), 2)
"""


def test_results_come_in_order() -> None:
    assert in_processes(pow, ([2, 3, 4], [10, 2, 0]), 2) == [1024, 9, 1]


def test_workers_end_with_the_process_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(WORK)
    main = tmp_path / "main.py"
    main.write_text(MAIN)
    told = tmp_path / "told"
    told.mkdir()
    # the workers keep its standard output open: it ends when the last of them has ended
    with subprocess.Popen(
        [sys.executable, str(main), str(told)], cwd=tmp_path, stdout=subprocess.PIPE
    ) as process:
        while len([f for f in told.iterdir() if f.read_text()]) < 2:
            assert process.poll() is None
        process.kill()
        said, _ = process.communicate(timeout=60.0)
        assert said == b""
