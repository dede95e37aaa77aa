"""The command line in this process: for commands that start no node."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from spinemat_bringup.cli import main


def spinemat(*arguments: Any, cwd: Path | None = None, answer: str = "") -> tuple[int, str]:
    """Run a command and return its exit status and all that it said."""
    with chdir(cwd or Path()):
        done = CliRunner().invoke(main, [str(a) for a in arguments], input=answer)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output
