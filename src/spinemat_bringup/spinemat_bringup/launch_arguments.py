"""Arguments of the files in `launch/`: their defaults, what they say, and what their values mean.

Like `launching`, which starts what they ask for, this needs the standard library and ROS alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spinemat_bringup.graph import (
    DEMANDS,
    NAMESPACE,
    NO_RECORD,
    PROFILES,
    GraphOptions,
    share,
    state_folder,
)

SWITCH = ("true", "false")
_NAMESPACE = re.compile(r"(/[A-Za-z_][A-Za-z0-9_]*)+")


class Refused(ValueError):
    """What the user wants cannot be had; the message is one line for people."""


@dataclass(frozen=True)
class Argument:
    """An argument of a launch file."""

    default: str
    text: str
    choices: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """What `--show-args` says."""
        return f"{self.text} ({' or '.join(self.choices)})" if self.choices else self.text


ARGUMENTS = {
    "namespace": Argument(NAMESPACE, "namespace of the mat; frames are prefixed by it, too"),
    "mat_config": Argument("", "path of the mat's description; empty: the installed mat.yaml"),
    "record": Argument("all", "what of a session is recorded", (*PROFILES, NO_RECORD)),
    "folder": Argument("", "record all the time into this folder; empty: sessions, into theirs"),
    "sessions": Argument("sessions", "folder in which each session gets one"),
    "state": Argument("", "folder of latch, calibration and safety log; empty: the user's own"),
    "programmes": Argument("", "folder of programmes; empty: those that ship"),
    "database": Argument(
        "", "URL of the database of all sessions; empty: spinemat.db in sessions; none: none"
    ),
    "confirm": Argument(DEMANDS[0], "whether every plan waits for a clinician", DEMANDS),
    "screening": Argument(
        DEMANDS[0], "whether only people whose answers were given are treated", DEMANDS
    ),
    "simulator": Argument("mujoco", "physics of the simulated mat", ("mujoco", "gazebo")),
    "patient": Argument(
        "", "who lies there: preset, YAML file or row of the body survey; empty: average adult"
    ),
    "seed": Argument("0", "seed of the virtual person, the sensors and the drives"),
    "real_time": Argument(
        "false", "pace MuJoCo by the wall clock instead of in lock-step with the nodes", SWITCH
    ),
    "headless": Argument("true", "false: open the window of Gazebo", SWITCH),
    "rviz": Argument("false", "open RViz and start what it shows", SWITCH),
    "use_sim_time": Argument("true", "follow the mat's own clock", SWITCH),
}
SESSION = ("programmes", "database", "confirm", "screening")
MAT = ("namespace", "mat_config", "record", "sessions", "state", *SESSION)
SIM = ("simulator", "patient", "seed", "real_time", "headless", "rviz", *MAT)
RECORD = ("namespace", "mat_config", "record", "folder", "patient", "seed")
VIEW = ("namespace", "mat_config", "state", "rviz", "use_sim_time")


def space(values: Mapping[str, str]) -> str:
    """Return the namespace with its slash.

    Raises:
        Refused: it is none.
    """
    found = "/" + values["namespace"].strip("/")
    if not _NAMESPACE.fullmatch(found):
        raise Refused(
            f"namespace: {values['namespace']!r} is not allowed (letters, digits and _, not"
            f" beginning with a digit; parts divided by /)"
        )
    return found


def options(values: Mapping[str, str]) -> GraphOptions:
    """Return what the arguments of a launch file say of the graph; files are named in full."""
    patient = values.get("patient", "")
    return GraphOptions(
        mat_config=mat_config(values),
        sim=values.get("simulator", "none"),
        real_time=values.get("real_time") == "true",
        patient=str(Path(patient).resolve()) if Path(patient).is_file() else patient,
        seed=whole("seed", values.get("seed", "0")),
        sessions_dir=Path(values["sessions"]).expanduser().resolve(),
        state_dir=state_dir(values),
        record=values["record"] != NO_RECORD,
        profile=values["record"],
        database=values.get("database", ""),
        programmes=programmes(values),
        confirm=values.get("confirm", DEMANDS[0]),
        screening=values.get("screening", DEMANDS[0]),
    )


def mat_config(values: Mapping[str, str]) -> Path:
    """Path of the mat's description."""
    return Path(values["mat_config"] or share("config", "mat.yaml")).expanduser().resolve()


def programmes(values: Mapping[str, str]) -> Path | None:
    """Folder of programmes; None: those that ship."""
    folder = values.get("programmes", "")
    return Path(folder).expanduser().resolve() if folder else None


def state_dir(values: Mapping[str, str]) -> Path:
    """Folder of latch, calibration and safety log."""
    return Path(values["state"] or state_folder(space(values))).expanduser().resolve()


def whole(name: str, text: str) -> int:
    """Return the whole number that an argument holds.

    Raises:
        Refused: it holds none.
    """
    try:
        return int(text)
    except ValueError:
        raise Refused(f"{name}: {text!r} is not allowed (a whole number)") from None
