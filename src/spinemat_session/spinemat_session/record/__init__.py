"""The record that lasts: one database for all people, sessions, results and outcomes.

`Store` reads and writes it, `BackgroundWriter` writes it beside a running session without ever
disturbing it, `trends` says what changed over weeks, `export` gives tidy tables away. No ROS in
here. The rules and every column are in docs/record.md.
"""

from spinemat_session.record.faults import StoreError
from spinemat_session.record.found import BrokenOff, Comfort, PastSession
from spinemat_session.record.store import Store
from spinemat_session.record.writer import BackgroundWriter
from spinemat_session.record.writes import Dose, MeasuredLevel

__all__ = [
    "BackgroundWriter",
    "BrokenOff",
    "Comfort",
    "Dose",
    "MeasuredLevel",
    "PastSession",
    "Store",
    "StoreError",
]
