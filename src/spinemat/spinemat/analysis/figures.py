"""What a recording says in numbers: one row per bag, and two bags beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spinemat.analysis.bags import SECOND, Bag, about_json
from spinemat.analysis.tables import gather, table
from spinemat.anatomy import TRUNK
from spinemat.units import WORDS

if TYPE_CHECKING:
    import pandas as pd

PRESSING = 1.5  # N on any finger: somebody is pressed (engineering choice)
_STOPPED = WORDS["SafetyState", "state"].index("STOPPED")
_TREAT = WORDS["SessionState", "phase"].index("TREAT")


def figures(path: str | Path | Bag) -> dict[str, Any]:
    """Return the figures of one bag; what was not recorded is NaN.

    Every bag gives the same keys, the unit at the end of the name, so that the rows of many bags
    are a table. `before` and `after` mean the first and the last map of stiffness and contour.

    Args:
        path: a bag, or what `Bag` takes.

    Raises:
        BagError: nothing of it can be read.
    """
    bag = path if isinstance(path, Bag) else Bag(path)
    person = about_json(bag, "person") or {}
    found: dict[str, Any] = {
        "bag": str(bag.session or bag.path),
        "person_id": str(person.get("id", "")),
        "session_id": "",
        "programme": "",
        "seconds_s": bag.seconds,
        "messages": sum(bag.counts.values()),
        "complete": bag.closed and not bag.problems,
    }
    there = {name: fields for name, fields in _FIELDS.items() if _has(bag, name)}
    if "drive/state" in there:
        there.pop("fingers/state", None)  # the raw forces say more
    got, _ = gather(bag, there)
    found |= _session(got) | _forces(got) | _safety(got) | _felt(got) | _results(bag, got)
    found["problems"] = len(bag.problems)
    found["complete"] = found["complete"] and not bag.problems
    return found


def compare(a: Bag, b: Bag) -> pd.DataFrame:
    """Return the figures of two bags and the differences b - a, one row per figure."""
    import pandas as pd

    left, right = figures(a), figures(b)
    rows = []
    for name in left:
        x, y = left[name], right[name]
        number = isinstance(x, (int, float)) and not isinstance(x, bool)
        rows.append({"figure": name, "a": x, "b": y, "difference": y - x if number else None})
    return pd.DataFrame(rows).set_index("figure")


def compare_levels(a: Bag, b: Bag) -> pd.DataFrame:
    """Return the stiffness of each level, both sides, in the last maps of two bags.

    Columns are N/m; `detectable_n_per_m` is the smallest difference that chance does not explain
    at 95 %: 1.96 times the root of the summed squares of both standard errors. Empty where one of
    the bags has no map.
    """
    import pandas as pd

    maps = [levels(bag) for bag in (a, b)]
    if any(m.empty for m in maps):
        return pd.DataFrame()
    last = [m[m["t_s"] == m["t_s"].max()].set_index("level") for m in maps]
    joined = last[0].join(last[1], lsuffix="_a", rsuffix="_b", how="inner")
    change = joined["value_n_per_m_b"] - joined["value_n_per_m_a"]
    least = 1.96 * np.hypot(joined["standard_error_n_per_m_a"], joined["standard_error_n_per_m_b"])
    return pd.DataFrame(
        {
            "a_n_per_m": joined["value_n_per_m_a"],
            "b_n_per_m": joined["value_n_per_m_b"],
            "difference_n_per_m": change,
            "detectable_n_per_m": least,
            "changed": change.abs() > least,
        }
    )


def levels(bag: Bag) -> pd.DataFrame:
    """Return the valid levels, both sides together, of every map that the session itself made."""
    import pandas as pd

    if bag.full("stiffness") not in bag.topics:
        return pd.DataFrame()
    found = table(bag, "stiffness", "levels")
    if found.empty:
        return found
    own = found["t_s"] >= bag.span[0] / SECOND - 1e-6  # older ones were latched before
    return found[own & (found["side"] == "BOTH") & found["valid"].astype(bool)]


_FIELDS = {
    "session/state": ("phase", "session_id", "programme"),
    "drive/state": ("force",),
    "fingers/state": ("force",),
    "safety/state": ("state", "cause"),
    "breathing": ("rate", "valid"),
    "guarding": ("active",),
    "comfort": ("pain",),
    "contour": ("kyphosis", "lordosis"),
}
_Got = dict[str, dict[str, NDArray[Any]]]


def _has(bag: Bag, topic: str) -> bool:
    return bag.counts.get(bag.full(topic), 0) > 0


def _session(got: _Got) -> dict[str, Any]:
    nan = float("nan")
    found = {"session_id": "", "programme": "", "treatment_s": nan}
    if "session/state" in got:
        s = got["session/state"]
        found["session_id"] = next((str(v) for v in s["session_id"] if v), "")
        found["programme"] = next((str(v) for v in s["programme"] if v), "")
        steps = np.diff(s["t"], append=s["t"][-1:])
        found["treatment_s"] = float(steps[s["phase"] == _TREAT].sum())
    return found


def _forces(got: _Got) -> dict[str, Any]:
    nan = float("nan")
    found = {"peak_force_n": nan, "mean_force_n": nan, "pressing_s": nan}
    for topic in ("drive/state", "fingers/state"):
        if topic in got:
            s = got[topic]
            touching = (s["force"] > PRESSING).any(axis=1)
            steps = np.diff(s["t"], append=s["t"][-1:])
            found["peak_force_n"] = float(s["force"].max())
            found["pressing_s"] = float(steps[touching].sum())
            if touching.any():
                loaded = s["force"][touching]
                found["mean_force_n"] = float(loaded[loaded > PRESSING].mean())
            break
    return found


def _safety(got: _Got) -> dict[str, Any]:
    found: dict[str, Any] = {"stops": float("nan"), "first_stop": ""}
    if "safety/state" in got:
        s = got["safety/state"]
        stopped = s["state"] == _STOPPED
        begins = np.flatnonzero(stopped & ~np.concatenate([[False], stopped[:-1]]))
        found["stops"] = int(begins.size)
        found["first_stop"] = str(s["cause"][begins[0]]) if begins.size else ""
    return found


def _felt(got: _Got) -> dict[str, Any]:
    nan = float("nan")
    found = {"breathing_hz": nan, "guarding_s": nan, "worst_pain": nan}
    if "breathing" in got:
        s = got["breathing"]
        valid = s["valid"].astype(bool)
        found["breathing_hz"] = float(np.median(s["rate"][valid])) if valid.any() else nan
    if "guarding" in got:
        s = got["guarding"]
        steps = np.diff(s["t"], append=s["t"][-1:])
        found["guarding_s"] = float(steps[s["active"].astype(bool)].sum())
    if "comfort" in got:
        found["worst_pain"] = float(got["comfort"]["pain"].max())
    return found


def _results(bag: Bag, got: _Got) -> dict[str, Any]:
    nan = float("nan")
    found = {
        f"{name}_{when}_{unit}": nan
        for name, unit in (
            ("trunk_stiffness", "n_per_m"),
            ("kyphosis", "rad"),
            ("lordosis", "rad"),
        )
        for when in ("before", "after")
    }
    start = bag.span[0] / SECOND - 1e-6
    if "contour" in got:
        s = got["contour"]
        own = s["t"] >= start
        for name in ("kyphosis", "lordosis"):
            _ends(found, name, "rad", s[name][own])
    maps = levels(bag)
    if not maps.empty:
        trunk = maps[maps["level"].isin(TRUNK)]
        _ends(found, "trunk_stiffness", "n_per_m", trunk.groupby("t_s")["value_n_per_m"].mean())
    return found


def _ends(found: dict[str, Any], name: str, unit: str, values: Any) -> None:
    values = np.asarray(values, dtype=float)
    if values.size:
        found[f"{name}_before_{unit}"] = float(values[0])
    if values.size > 1:
        found[f"{name}_after_{unit}"] = float(values[-1])
