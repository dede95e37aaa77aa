"""The posture strip over a recording; see `rerun`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from spinemat.analysis.bags import Bag, about_json
from spinemat.anatomy import check_intake
from spinemat.errors import InvalidInput
from spinemat.posture import FRESH, PostureEstimate, PostureWatch
from spinemat.reactions import Presence
from spinemat.scan_log import Begin


class Strip:
    """The strip's curves, worked out again from the recorded directions of its sensors.

    Args:
        bag: the recording.
        messages: decoded, by topic; what of `posture` cannot be compared is taken out.
        scanned: ns, when the first scan of the recording told who lies on the mat; 0: none did.
        notes: takes why curves are not run again.
    """

    def __init__(
        self, bag: Bag, messages: dict[str, list[Any]], scanned: int, notes: list[str]
    ) -> None:
        parameters = about_json(bag, "parameters") or {}
        places = np.array(parameters.get("spine_contour", {}).get("posture_strip", [0.0]))
        told, directions = messages["posture"], messages["posture/imu"]
        why = ""
        if places.size < 2:
            why = "where the strip's sensors are was not recorded"
        elif not directions:
            why = "no posture/imu was recorded"
        elif not scanned and any(m.levels for m in told):
            why = "who lies on the mat was told before the recording began"
        if why:
            if told:
                notes.append(f"posture is not run again: {why}")
            told, directions = [], []
        # until then, directions from before the recording, or another person, may be in them
        self._begin = max(_at(directions[0]) + FRESH, scanned) if directions else 0
        messages["posture"] = [m for m in told if _at(m) > self._begin]
        self._left = deque(directions)
        self._drive = 0  # ns
        self._watch = PostureWatch(places)

    def lies_on(self, entry: Begin) -> None:
        """Somebody is scanned."""
        self._watch.intake = check_intake(entry.sex, entry.age, entry.stature, entry.mass)

    def felt(self, now: int, presence: Presence) -> None:
        """A state of the fingers at `now` (ns) told whether somebody is there."""
        self._drive = now
        if presence == Presence.ABSENT:
            self._watch.intake = None

    def until(self, now: int | None) -> Iterator[tuple[int, PostureEstimate]]:
        """Yield curves, and their times, from directions before `now` (ns); None: from all."""
        while self._left and (now is None or _at(self._left[0]) < now):
            m = self._left.popleft()
            q, at = m.orientation, _at(m)
            direction = np.array([q.x, q.y, q.z, q.w])
            try:
                curve = self._watch.add(
                    m.header.frame_id, at, direction, m.orientation_covariance, self._drive
                )
            except InvalidInput:  # as it was then
                continue
            if curve is not None and at > self._begin:
                yield at, curve


def _at(message: Any) -> int:
    """Return a message's time, ns."""
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
