"""`spinemat test`: style, types and tests of the repository the command line was built from."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile

CHECKS = (
    ("style", ["ruff", "check", "."]),
    ("format", ["ruff", "format", "--check", "."]),
    ("types", ["mypy"]),
)
# Tests that run nodes are timed by the machine they run on: one at a time. Beside them, with what
# they leave of the processors, run all the others: a virtual machine whose processors never rest
# is not kept waiting by its host whenever a node wakes up. Where the host stood still for seconds,
# the supervisor stops the mat, as it should: a test that failed with these words is tried again.
LATE = "drive silent|no fresh|overrun"
NODES = ["-m", "graph", "--reruns", "2", "--only-rerun", LATE]
OTHERS = ["-m", "not graph", "-n", "auto", "--dist", "worksteal"]


def repository() -> Path:
    """Return the root of the repository.

    Raises:
        SystemExit: this is an installation without the repository.
    """
    for folder in (Path.cwd(), *Path(__file__).resolve().parents):
        if (folder / "requirements.lock").is_file() and (folder / "tests").is_dir():
            return folder
    sys.exit("spinemat test: run it inside the repository")


def run_tests(arguments: Sequence[str]) -> int:
    """Run all checks, then pytest; with arguments only pytest. Return 0 if all is well."""
    root = repository()
    pytest = [sys.executable, "-m", "pytest"]
    if arguments:
        return int(subprocess.run([*pytest, *arguments], cwd=root).returncode != 0)
    failed = 0
    with TemporaryFile() as said:
        print("tests without nodes run beside all else; what they say follows", flush=True)
        single = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # there is a process per processor
        others = subprocess.Popen(
            ["nice", "-n", "19", *pytest, *OTHERS], cwd=root, stdout=said, env=single
        )
        try:
            for name, command in CHECKS:
                started = time.monotonic()
                status = subprocess.run([sys.executable, "-m", *command], cwd=root).returncode
                failed += status != 0
                verdict = "ok" if status == 0 else "FAILED"
                print(f"{name}: {verdict} ({time.monotonic() - started:.0f} s)", flush=True)
            failed += subprocess.run([*pytest, *NODES], cwd=root).returncode != 0
            failed += others.wait() != 0
        finally:
            others.terminate()
            others.wait()
        said.seek(0)
        print(said.read().decode(errors="replace"), flush=True)
    return int(failed > 0)
