"""The numbers of a session's report as CSV: one tidy table per file, SI units in column names."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from spinemat.layout import MatLayout
from spinemat_recording.change import (
    NOT_JUDGED,
    SHAPE,
    changes,
    evenness,
    heights,
    level_names,
    shape,
)
from spinemat_recording.record import Level, SessionRecord
from spinemat_recording.treatment import doses, episodes, rates, steps

MOMENTS = ("before", "after")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table in UTF-8; what is not known (None, NaN) is an empty field.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_cell(value) for value in row])


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(float(value)) if isinstance(value, float) else value


def write_tables(folder: Path, record: SessionRecord, layout: MatLayout) -> list[Path]:
    """Write what the record holds into `folder`; a table without a row has its head only.

    Raises:
        OSError: a file cannot be written.
    """
    tables = {
        "levels": _levels(record),
        "summary": _summary(record),
        "findings": _findings(record),
        "contour": _contour(record),
        "level_heights": _heights(record),
        "dose": _dose(record, layout),
        "steps": _steps(record),
        "breathing": _breathing(record),
        "comfort": _comfort(record),
        "guarding": _guarding(record),
        "events": _events(record),
    }
    for name, (columns, rows) in tables.items():
        write_csv(folder / f"{name}.csv", columns, rows)
    return [folder / f"{name}.csv" for name in tables]


Table = tuple[tuple[str, ...], list[tuple[Any, ...]]]


def _levels(record: SessionRecord) -> Table:
    columns = (
        "level", "side", "x_m",
        *(f"{name}_{when}{unit}" for when in MOMENTS for name, unit in (
            ("stiffness", "_n_per_m"), ("standard_error", "_n_per_m"), ("valid", ""),
            ("reason", ""))),
        "change_n_per_m", "minimal_detectable_change_n_per_m", "verdict",
    )  # fmt: skip
    if not record.stiffness:
        return columns, []
    before = record.stiffness[0]
    after = record.stiffness[-1] if len(record.stiffness) > 1 else None
    judged = {
        (c.level, c.side): c
        for side in ("BOTH", "LEFT", "RIGHT")
        for c in changes(before, after, side)
    }
    rows = []
    for level in level_names(before, after):
        for side in ("BOTH", "LEFT", "RIGHT"):
            c = judged.get((level, side))
            if c is None:
                continue
            one, two = before.get(level, side), after.get(level, side) if after else None
            known = one or two
            rows.append(
                (
                    level, side.lower(), known.x if known else None, *_level(one), *_level(two),
                    None if c.change is None else 1e3 * c.change,
                    None if c.detectable is None else 1e3 * c.detectable, c.verdict,
                )
            )  # fmt: skip
    return columns, rows


def _level(entry: Level | None) -> tuple[Any, ...]:
    if entry is None:
        return None, None, None, None
    return entry.value, entry.standard_error, bool(entry.valid), entry.reason


def _summary(record: SessionRecord) -> Table:
    """One number of the whole back a row; the unit stands beside it."""
    columns = (
        "quantity", "unit", "before", "standard_error_before", "after", "standard_error_after",
        "change", "minimal_detectable_change", "verdict", "method",
    )  # fmt: skip
    rows: list[tuple[Any, ...]] = []
    if record.stiffness:
        rows.append(("evenness", "1", *evenness(record.stiffness), record.stiffness[0].method))
    if record.contours:
        method = record.contours[0].method
        rows += [
            (name, SHAPE[name][0], *found, method)
            for name, found in shape(record.contours).items()
        ]
    before, after = (rates(record, phase) for phase in ("SCAN", "RESCAN"))
    if before.size or after.size:
        rows.append(
            ("breathing_rate_median", "Hz", *(x for v in (before, after)
             for x in (float(sorted(v)[v.size // 2]) if v.size else None, None)),
             None, None, NOT_JUDGED, "felt by resting fingers in the scans")
        )  # fmt: skip
    return columns, rows


def _findings(record: SessionRecord) -> Table:
    columns = ("moment", "finding", "level", "ratio", "side_difference", "probability")
    rows: list[tuple[Any, ...]] = []
    pair = [*record.stiffness[:1], *record.stiffness[1:][-1:]]
    for when, found in zip(MOMENTS, pair, strict=False):
        rows += [
            (when, "tension point", p.level, p.ratio, None, p.probability) for p in found.tension
        ]
        rows += [
            (when, "uneven sides", s.level, None, s.difference, s.probability) for s in found.sides
        ]
    return columns, rows


def _contour(record: SessionRecord) -> Table:
    pair = [*record.contours[:1], *record.contours[1:][-1:]]
    return ("moment", "x_m", "z_m", "standard_error_m"), [
        (when, *values)
        for when, c in zip(MOMENTS, pair, strict=False)
        for values in zip(c.x.tolist(), c.z.tolist(), c.z_std.tolist(), strict=True)
    ]


def _heights(record: SessionRecord) -> Table:
    columns = (
        "level", "x_m", "z_before_m", "standard_error_before_m", "z_after_m",
        "standard_error_after_m", "change_m", "minimal_detectable_change_m", "verdict",
    )  # fmt: skip
    if not record.contours:
        return columns, []
    after = record.contours[-1] if len(record.contours) > 1 else None
    found = heights(record.contours[0], after)
    return columns, [(level, x, *values) for level, (x, values) in found.items()]


def _dose(record: SessionRecord, layout: MatLayout) -> Table:
    columns = (
        "level", "planned_peak_n", "given_peak_n", "planned_presses", "given_presses",
        "planned_work_j", "given_work_j", "given_pressing_time_s", "why",
    )  # fmt: skip
    return columns, [(*row[:-1], " ".join(row.why)) for row in doses(record, layout)]


def _steps(record: SessionRecord) -> Table:
    columns = (
        "step", "start_s", "end_s", "presses_of_all_fingers", "presses_with_breath_felt",
        "share_with_peak_in_expiration",
    )  # fmt: skip
    return columns, [
        (s.words, s.start - record.start, s.end - record.start, *s[3:]) for s in steps(record)
    ]


def _breathing(record: SessionRecord) -> Table:
    b = record.breathing
    columns = ("time_s", "rate_hz", "phase_rad", "quality", "valid")
    if b is None:
        return columns, []
    series = (b.t - record.start, b.rate, b.phase, b.quality)
    valid = [bool(v) for v in b.valid]
    return columns, list(zip(*(v.tolist() for v in series), valid, strict=True))


def _comfort(record: SessionRecord) -> Table:
    return ("time_s", "pain_0_to_10", "place", "action"), [
        (e.t - record.start, e.data["pain"], e.data.get("place", ""), e.data.get("action", ""))
        for e in record.events
        if e.kind == "comfort" and isinstance(e.data, dict) and "pain" in e.data
    ]


def _guarding(record: SessionRecord) -> Table:
    return ("start_s", "end_s", "largest_stiffening_ratio"), [
        (g.start - record.start, g.end - record.start, g.stiffening)
        for g in episodes(record.guarding)
    ]


def _events(record: SessionRecord) -> Table:
    return ("time_s", "severity", "source", "kind", "text"), [
        (e.t - record.start, e.severity, e.source, e.kind, e.text)
        for e in sorted(record.events, key=lambda e: e.t)
    ]
