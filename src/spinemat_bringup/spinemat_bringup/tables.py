"""Scans, self-tests and plans as tables for people: mm, degrees, N/mm."""

from __future__ import annotations

import math

from rich.table import Table
from rich.text import Text

from spinemat_interfaces.action import Calibrate, ScanSpine
from spinemat_interfaces.msg import LevelStiffness, SessionPlan


def plan_table(plan: SessionPlan) -> Table:
    """What each level is to get, and why."""
    table = Table(
        title=f"{plan.title}: {plan.total / 60:.0f} min, {plan.pressing / 60:.0f} of pressing",
        title_justify="left",
    )
    for name in ("level", "peak, N", "presses", "work, J", "why"):
        table.add_column(name, justify="left" if name in ("level", "why") else "right")
    for dose in plan.levels:
        if dose.peak > 0.0 or dose.why:
            numbers = f"{dose.peak:.1f}", f"{dose.cycles:.0f}", f"{dose.work:.2f}"
            table.add_row(dose.level, *numbers, Text(" ".join(dose.why)))
    return table


def calibration_table(result: Calibrate.Result) -> Table:
    """Return what a self-test found on each finger."""
    table = Table(title="Self-test of the fingers", title_justify="left")
    heads = ("finger", "zero / N", "noise / N", "friction / N", "spring / N", "travel", "verdict")
    for name in heads:
        table.add_column(name, justify="left" if name in heads[::6] else "right")
    r = result
    figures = zip(r.zero, r.noise, r.friction, r.spring, r.travel, strict=True)
    for name, fault, values in zip(r.name, r.fault, figures, strict=True):
        cells = ["–" if math.isnan(v) else f"{v:.2f}" for v in values]
        table.add_row(name, *cells, f"excluded: {fault}" if fault else "passed")
    return table


def scan_tables(result: ScanSpine.Result) -> list[Table]:
    """Return the contour and, if measured, the stiffness map."""
    c = result.contour
    contour = Table(
        title="Contour of the back, unloaded, end-expiration",
        title_justify="left",
        caption=c.method,
        caption_justify="left",
    )
    for name in ("row x / mm", "left / mm", "right / mm", "contact"):
        contour.add_column(name, justify="right")
    for x, left, right, valid in zip(c.row_x, c.left, c.right, c.valid, strict=True):
        contour.add_row(
            f"{1e3 * x:.0f}", f"{1e3 * left:.1f}", f"{1e3 * right:.1f}", "yes" if valid else "no"
        )
    angles = ", ".join(
        f"{name} {math.degrees(value):.0f}° ± {math.degrees(error):.0f}°"
        for name, value, error in (
            ("kyphosis", c.kyphosis, c.kyphosis_std),
            ("lordosis", c.lordosis, c.lordosis_std),
        )
    )
    contour.add_row("", "", "", angles)
    if not result.stiffness.levels:
        return [contour]
    stiffness = Table(
        title="Posteroanterior stiffness, N/mm ± standard error",
        title_justify="left",
        caption=result.stiffness.method,
        caption_justify="left",
    )
    for name in ("level", "pair", "left", "right", "reason"):
        stiffness.add_column(name)
    sides = (LevelStiffness.BOTH, LevelStiffness.LEFT, LevelStiffness.RIGHT)
    entries = {(e.level, e.side): e for e in result.stiffness.levels}
    for level in dict.fromkeys(e.level for e in result.stiffness.levels):
        cells, reason = [], ""
        for side in sides:
            e = entries.get((level, side))
            ok = e is not None and e.valid
            cells.append(
                f"{e.value / 1e3:.1f} ± {e.standard_error / 1e3:.1f}" if ok and e else "–"
            )
            reason = reason or (e.reason if e is not None else "")
        stiffness.add_row(level, *cells, reason)
    return [contour, stiffness]
