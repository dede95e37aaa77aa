"""What an assessor reads afterwards: an append-only log, and the drive's data around each stop.

`safety_events.jsonl` has one JSON object per line, handed to the operating system at once, so that
it outlives the supervisor. A thread of its own puts it on the disk and writes, in order, one NumPy
archive per stop beside it with the drive states of the 5 s before and after: a disk that is slow
must not keep the supervisor from judging.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from spinemat.drive_track import Sample
from spinemat.rules import RULES
from spinemat.safety import State

AROUND = 5.0  # s of drive time before and after a stop
FIELDS = ("position", "velocity", "force", "current", "temperature", "status")
LIMITS = {rule.name: rule.limit for rule in RULES}


class Evidence:
    """The log of one supervisor.

    Args:
        folder: of the log; None: nothing is kept.
        cycle: s of a drive cycle.
        complain: told what could not be written.
    """

    def __init__(
        self, folder: Path | None, cycle: float, complain: Callable[[str], object]
    ) -> None:
        self._folder, self._complain = folder, complain
        self._writer = ThreadPoolExecutor(max_workers=1)
        self._length = round(AROUND / cycle)
        self._before: deque[Sample] = deque(maxlen=self._length)
        self._open: tuple[Path, list[Sample], int] | None = None  # file, states, how many more

    def note(
        self, kind: str, sample: Sample | None, before: State, after: State, **data: Any
    ) -> None:
        """Append one event.

        Args:
            kind: short and stable: stop, later cause, reset, refused, started.
            sample: the drive state at hand.
            before, after: states of the supervisor.
            data: cause, detail and whatever else belongs to it.
        """
        entry = {
            "time": datetime.now().astimezone().isoformat(timespec="milliseconds"),
            "kind": kind,
            "before": before.name,
            "after": after.name,
            "cycle": sample.cycle if sample else 0,
            "stamp": 1e-9 * sample.stamp if sample else 0.0,
            **data,
        }
        if "cause" in data:
            entry["limit"] = LIMITS.get(str(data["cause"]), "")
        if kind == "stop" and self._folder is not None:
            name = f"stop-{datetime.now():%Y%m%d-%H%M%S}-{entry['cycle']}.npz"
            self._finish()
            self._open = self._folder / name, list(self._before), self._length
            entry["drive_states"] = name
        if self._folder is None:
            return
        self._append(self._folder, json.dumps(entry))
        if kind == "stop" and self._open is not None:  # safe, whatever happens next
            path, states, _ = self._open
            self._writer.submit(self._write, path, list(states))

    def _append(self, folder: Path, line: str) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = (folder / "safety_events.jsonl").open("ab", buffering=0)
            file.write(line.encode() + b"\n")
        except OSError as error:
            self._complain(f"the safety log cannot be written: {error}")
        else:
            self._writer.submit(self._sync, file)

    def _sync(self, file: FileIO) -> None:
        try:
            with file:
                os.fsync(file.fileno())
        except OSError as error:
            self._complain(f"the safety log cannot be kept: {error}")

    def keep(self, sample: Sample) -> None:
        """Take every drive state."""
        self._before.append(sample)
        if self._open is not None:
            path, states, more = self._open
            states.append(sample)
            self._open = path, states, more - 1
            if more <= 1:
                self._finish()

    def close(self) -> None:
        """Write what is open, and wait until all is written."""
        self._finish()
        self._writer.shutdown()

    def _finish(self) -> None:
        if self._open is None:
            return
        (path, states, _), self._open = self._open, None
        self._writer.submit(self._write, path, states)

    def _write(self, path: Path, states: list[Sample]) -> None:
        shapes = [s.force.shape for s in states]
        shape = max(set(shapes), key=shapes.count, default=(0,))
        states = [s for s in states if all(getattr(s, f).shape == shape for f in FIELDS)]
        arrays: dict[str, Any] = {f: np.array([getattr(s, f) for s in states]) for f in FIELDS}
        arrays["cycle"] = np.array([s.cycle for s in states])
        arrays["stamp"] = 1e-9 * np.array([s.stamp for s in states])
        arrays["stage"] = np.array([s.stage for s in states])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                np.savez(file, **arrays)
        except OSError as error:
            self._complain(f"the drive's data of a stop cannot be written: {error}")
