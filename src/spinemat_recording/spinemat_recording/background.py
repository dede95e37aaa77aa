"""A session's folder that is written by a thread of its own: a slow disk disturbs nobody.

Messages wait in memory. What the disk does not take before `ROOM` is used up is dropped and
counted by topic.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from spinemat_recording.bag import BagTopic, SessionFolder

ROOM = 64 << 20  # bytes of messages that may wait: a minute and a half at 250 Hz
PAUSE = 0.1  # s between looks at what waits: a few messages at once cost less


class Background:
    """Hands messages to a `SessionFolder` in another thread; `close` waits for it.

    Args:
        make: makes the folder, in that thread; told where to say a failure.
        room: bytes that may wait.

    Attributes:
        folder: None until it is made; its figures are final after `close`.
        dropped: messages that found no room, by topic.
    """

    def __init__(
        self, make: Callable[[Callable[[str], None]], SessionFolder], room: int = ROOM
    ) -> None:
        self.folder: SessionFolder | None = None
        self.dropped: dict[str, int] = {}
        self._make, self._room = make, room
        self._waiting: list[tuple[BagTopic | None, int, Any]] = []
        self._bytes = 0  # that wait or are being written
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ending = False
        self._news: list[str] = []
        self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self._thread.start()

    def write(self, topic: BagTopic, time: int, data: bytes) -> None:
        """Take a serialized message at `time` (ns)."""
        size = len(data)
        with self._lock:
            if self._bytes + size > self._room:
                if not self.dropped:
                    self._news.append(
                        f"the disk is too slow: {self._bytes >> 20} MB wait; messages are dropped"
                    )
                self.dropped[topic.name] = self.dropped.get(topic.name, 0) + 1
                return
            self._bytes += size
            self._waiting.append((topic, time, data))

    def line(self, entry: Mapping[str, Any]) -> None:
        """Take a line for `events.jsonl`; never dropped."""
        with self._lock:
            self._waiting.append((None, 0, entry))

    def news(self) -> list[str]:
        """Return what went wrong since the last call, one line each."""
        with self._lock:
            news, self._news = self._news, []
        return news

    def close(self) -> SessionFolder | None:
        """Write what waits, close the bag, and return the folder; its lines stay open."""
        self._ending = True
        self._wake.set()
        self._thread.join()
        return self.folder

    def _say(self, text: str) -> None:
        with self._lock:
            self._news.append(text)

    def _run(self) -> None:
        try:
            folder = self.folder = self._make(self._say)
        except Exception as error:
            self._say(f"recording failed: {error}")
            return
        while True:
            ending = self._ending
            with self._lock:
                taken, self._waiting = self._waiting, []
            size = 0
            for topic, time, data in taken:
                if topic is None:
                    folder.line(data)
                else:
                    folder.write(topic, time, data)
                    size += len(data)
            folder.hand_over()
            with self._lock:
                self._bytes -= size
            if ending and not self._waiting:
                folder.close()
                return
            if not self._ending:
                self._wake.wait(PAUSE)
