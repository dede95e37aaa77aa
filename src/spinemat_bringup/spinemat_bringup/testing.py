"""`spinemat test`: style, types and tests of the repository the command line was built from."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

CHECKS = (
    ("style", ["ruff", "check", "."]),
    ("format", ["ruff", "format", "--check", "."]),
    ("types", ["mypy"]),
)
# tests that run nodes are timed by the machine they run on: one at a time, nothing beside them
PARTS = (["-m", "not graph", "-n", "auto", "--dist", "worksteal"], ["-m", "graph"])


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
    failed = 0
    for name, command in () if arguments else CHECKS:
        started = time.monotonic()
        status = subprocess.run([sys.executable, "-m", *command], cwd=root).returncode
        failed += status != 0
        verdict = "ok" if status == 0 else "FAILED"
        print(f"{name}: {verdict} ({time.monotonic() - started:.0f} s)", flush=True)
    for choice in [arguments] if arguments else PARTS:
        status = subprocess.run([sys.executable, "-m", "pytest", *choice], cwd=root).returncode
        failed += status != 0
    return int(failed > 0)
