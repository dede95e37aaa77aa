"""A PostgreSQL server of one's own, for tests and evaluations: no network, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

PATIENCE = 60.0  # s for it to start; never waited for unless something is broken


class NoServer(RuntimeError):
    """PostgreSQL is not installed or does not start; the message says which."""


class LocalServer:
    """A running server: a Unix socket in a temporary folder. A context manager.

    Data are not forced to the disk (`-F`): what it holds is lost with it.

    Args:
        forced: force data to the disk, as a server in use does: for measurements.

    Raises:
        NoServer: there is none.
    """

    def __init__(self, forced: bool = False) -> None:
        places = [*Path("/usr/lib/postgresql").glob("*/bin"), *map(Path, os.get_exec_path())]
        found = [place for place in places if (place / "initdb").exists()]
        if not found:
            raise NoServer("PostgreSQL is missing (apt: postgresql)")
        self._bin = max(found, key=lambda p: [int(n) for n in re.findall(r"\d+", str(p))])
        self._forced = forced
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._become: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self._become = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}"]
            self._become.append("--clear-groups")
        self.data = self.folder / "data"
        self._call("initdb", "-D", self.data, "-A", "trust", "-U", "spinemat", "--no-sync")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _call(self, program: str, *arguments: Any) -> None:
        command = [*self._become, str(self._bin / program), *map(str, arguments)]
        try:
            subprocess.run(command, check=True, capture_output=True, cwd=self.folder)
        except (OSError, subprocess.CalledProcessError) as error:
            words = getattr(error, "stderr", b"") or str(error).encode()
            raise NoServer(f"{program}: {words.decode(errors='replace').strip()}") from error

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = ["-D", self.data, "-k", self.folder, "-c", "listen_addresses="]
        self._process = subprocess.Popen(
            [*self._become, str(self._bin / "postgres"), *map(str, options)]
            + ([] if self._forced else ["-F"]),
            cwd=self.folder,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OperationalError):
                self.run("SELECT 1")
                return
            if time.monotonic() > end or self._process.poll() is not None:
                raise NoServer("PostgreSQL does not start")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it at once, as a crash does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(PATIENCE)

    def end(self) -> None:
        """Stop it and remove all that it held."""
        self.stop()
        shutil.rmtree(self.folder)

    def run(self, statement: str) -> None:
        """Run one statement as the owner of the server."""
        url = self.url("postgres").replace("postgresql:", "postgresql+psycopg:")
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.execute(sa.text(statement))

    def create(self, name: str) -> str:
        """Make a database and return its URL."""
        self.run(f"CREATE DATABASE {name}")
        return self.url(name)

    def drop(self, name: str) -> None:
        """Take a database away, if it is there, whoever uses it."""
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def url(self, name: str) -> str:
        """URL of a database of this server."""
        return f"postgresql://spinemat@/{name}?host={self.folder}"
