"""The fingers' self-test in the node: when it runs, who waits for it, and where it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future as Stored
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
from rclpy.task import Future

from spinemat.control import FingerController
from spinemat.errors import InvalidInput
from spinemat.layout import MatLayout
from spinemat.self_test import (
    Calibration,
    SelfTest,
    Verdict,
    dump_calibration,
    parse_calibration,
)
from spinemat_interfaces.msg import DriveState, Event
from spinemat_ros.codec import floats
from spinemat_ros.files import write_whole
from spinemat_ros.node import Voice
from spinemat_ros.script import wait


class FingerTests:
    """Runs the self-test once it is due and the fingers are free, and keeps its verdict.

    Args:
        layout: the mat.
        path: file of the calibration; None: not kept.

    Raises:
        InvalidInput: the file is there and is not a calibration of this mat.
    """

    def __init__(self, layout: MatLayout, path: Path | None) -> None:
        self._layout, self._path = layout, path
        self.stored: Calibration | None = None
        if path is not None and path.exists():
            try:
                self.stored = parse_calibration(layout, path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, InvalidInput) as error:
                allowed = f"a calibration of this mat ({error})"
                raise InvalidInput("calibration_file", str(path), allowed) from error
        self.verdict: Verdict | None = None
        self.due = False
        self.keep = False
        self._running: SelfTest | None = None
        self._waiting: list[Future] = []
        self._writer = ThreadPoolExecutor(max_workers=1)  # drive states are answered meanwhile
        self._storing: Stored[None] | None = None

    @property
    def excluded(self) -> Mapping[int, str]:
        """Fingers that failed, and why."""
        return self.verdict.excluded if self.verdict is not None else {}

    @property
    def busy(self) -> bool:
        """Whether a test is going on."""
        return self._running is not None

    @property
    def progress(self) -> float:
        """Share of the running test that is behind, [0, 1]."""
        return self._running.progress if self._running is not None else 0.0

    async def done(self) -> None:
        """Wait until a test has ended or broken off; `verdict` is None in that case."""
        self.due = self._running is None
        future: Future = Future()
        self._waiting.append(future)
        await wait(future)

    def tick(self, msg: DriveState, control: FingerController, voice: Voice) -> None:
        """Go on with a test while the drive stage runs; start one if it is due."""
        if self._storing is not None:
            if self._storing.done():
                self._stored(voice)
            return
        if self._running is None:
            if not self.due or not control.idle:
                return
            when = datetime.now().isoformat(timespec="seconds")
            self._running = SelfTest(self._layout, when, None if self.keep else self.stored)
            self.due, self.verdict = False, None
        arrays = (floats(a) for a in (msg.position, msg.velocity, msg.force, msg.current))
        self._running.tick(control, *arrays)
        if not self._running.done:
            return
        self.verdict, self._running = self._running.verdict, None
        assert self.verdict is not None
        severity = Event.WARNING if self.verdict.excluded else Event.INFO
        names = [self._layout.names[i] for i in self.verdict.excluded]
        words = self.verdict.words(self._layout)
        voice.say("self-test", words, {"excluded": names}, severity)
        if self.keep or self.stored is None:
            self._store()
        if self._storing is None:
            self._answer()

    def drop(self) -> None:
        """Break a test off; the next goal asks for a new one."""
        self._running, self.due = None, False
        self._answer()

    def _answer(self) -> None:
        self.keep = False
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.set_result(None)

    def _store(self) -> None:
        """Keep what was measured; a failed finger has nothing worth comparing with."""
        assert self.verdict is not None
        m, failed = self.verdict.measured, list(self.verdict.excluded)
        zero, friction, spring = np.stack([m.zero, m.friction, m.spring])
        for values in (zero, friction, spring):
            values[failed] = np.nan
        self.stored = replace(m, zero=zero, friction=friction, spring=spring)
        if self._path is not None:
            self._storing = self._writer.submit(self._write, self._path, self.stored)

    def _write(self, path: Path, calibration: Calibration) -> None:
        write_whole(path, dump_calibration(self._layout, calibration))

    def _stored(self, voice: Voice) -> None:
        assert self._storing is not None
        try:
            self._storing.result()
        except OSError as error:
            text = f"calibration not kept: {self._path}: {error.strerror}"
            voice.say("record", text, severity=Event.WARNING)
        self._storing = None
        if self.verdict is not None:  # else another test has been asked for meanwhile
            self._answer()
