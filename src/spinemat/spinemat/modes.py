"""What a finger may do."""

from enum import IntEnum


class Mode(IntEnum):
    """What a finger does; values as in FingerState.msg."""

    OFF = 0
    RETRACT = 1
    POSITION = 2
    FORCE = 3
    EXCLUDED = 4
