"""Pictures of what was planned and given, and of the weeks of a course; see `figures`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spinemat.back_model import UP
from spinemat_recording.figures import AFTER, BEFORE, INK, STYLE, WIDTH, svg
from spinemat_recording.treatment import Dose

if TYPE_CHECKING:
    from spinemat_recording.course import Course, Week

BAND = "#dbe7f1"
PLANNED = "#b9c4cd"


def dose_figure(rows: Sequence[Dose]) -> str:
    """Draw peak force, presses and work of the levels: planned beside given."""
    at = np.arange(len(rows))
    with rc_context({**STYLE, "axes.grid.axis": "y"}):
        figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
        panels = figure.subplots(3, 1, sharex=True)
        for axes, name, unit in zip(
            panels, ("peak", "presses", "work"), ("peak, N", "presses", "work, J"), strict=True
        ):
            for key, label, shift, style in (
                (f"planned_{name}", "planned", -0.2, {"color": PLANNED, "hatch": "///"}),
                (name, "given", 0.2, {"color": BEFORE}),
            ):
                values = [getattr(row, key) for row in rows]
                if any(v is not None for v in values):
                    axes.bar(
                        at + shift,
                        [v or 0.0 for v in values],
                        0.4,
                        label=label,
                        edgecolor="white" if label == "planned" else "none",
                        lw=0,
                        **style,
                    )
            axes.set_ylabel(unit)
            axes.set_axisbelow(True)
        panels[0].legend(loc="lower left", ncols=2, fontsize=8.5, bbox_to_anchor=(0, 1.0))
        panels[-1].set_xticks(at, [row.level for row in rows])
        panels[-1].set_xlim(-0.6, len(rows) - 0.4)
        panels[-1].set_xlabel("level  (foot end → head)")
        return svg(figure)


def course_figure(course: Course) -> str:
    """Draw the weeks of a course: stiffness, evenness, what the person said, days of use."""
    weeks = max(1, *(w.week + 1 for w in course.weeks), len(course.days_used))
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 5.4), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True)
        measures = course.measures
        _weeks(
            panels[0, 0],
            "stiffness of the trunk\nover the published mean",
            [("", measures.get("trunk_stiffness_ratio", ()))],
        )
        _weeks(panels[0, 1], "evenness of movement, %", [("", measures.get("evenness", ()))], 100)
        said = [(n, measures[n]) for n in ("pain", "function", "comfort") if n in measures]
        named = {"comfort": "pain in sessions"}
        _weeks(panels[1, 0], "said by the person, 0–10", [(named.get(n, n), w) for n, w in said])
        panels[1, 0].set_ylim(-0.3, 10.3)
        used = panels[1, 1]
        used.bar(np.arange(len(course.days_used)) + 1, course.days_used, 0.6, color=BEFORE)
        used.set_axisbelow(True)
        used.set_ylabel("days used in the week")
        used.set_ylim(0, 7.2)
        used.set_yticks(range(8))
        for axes in panels[1]:
            axes.set_xlabel("week since the first session")
            axes.set_xlim(0.4, weeks + 0.6)
            step = max(1, weeks // 12)
            axes.set_xticks(range(1, weeks + 1, step))
        return svg(figure)


def course_dose_figure(course: Course) -> str:
    """Draw what each level got on each day: largest force of a finger, and work.

    Args:
        course: with one dose at least.
    """
    levels = UP[::-1]  # head first, as a person stands
    at = {level: i for i, level in enumerate(levels)}
    shape = len(levels), (course.until - course.mapped_from).days + 1
    peak, work = np.full((2, *shape), np.nan)
    for dose in course.doses:
        place = at[dose.level], (dose.day - course.mapped_from).days
        peak[place], work[place] = dose.peak, dose.work
    with rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(WIDTH, 7.2), layout="constrained")
        panels = figure.subplots(2, 1, sharex=True)
        titles = "largest force of a finger, N", "work, J"
        for axes, image, title in zip(panels, (peak, work), titles, strict=True):
            axes.set_facecolor("#f1f1f1")
            drawn = axes.imshow(
                np.where(image > 0.0, image, np.nan),
                aspect="auto",
                cmap="YlGnBu",
                vmin=0.0,
                interpolation="nearest",
                extent=(course.days - shape[1] + 0.5, course.days + 0.5, len(levels) - 0.5, -0.5),
            )
            axes.set_yticks(range(len(levels)), levels, fontsize=7.5)
            figure.colorbar(drawn, ax=axes, label=title, pad=0.01)
        panels[1].set_xlabel("day since the first session")
        panels[1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        return svg(figure)


def _weeks(
    axes: Axes, title: str, lines: Sequence[tuple[str, Sequence[Week]]], scale: float = 1.0
) -> None:
    axes.set_ylabel(title)
    if not any(weeks for _, weeks in lines):
        axes.text(
            0.5, 0.5, "not known", ha="center", va="center", color="#777777",
            transform=axes.transAxes,
        )  # fmt: skip
        axes.set_yticks([])
        return
    looks = zip((BEFORE, AFTER, INK), ("o", "s", "^"), ("-", "--", ":"), strict=True)
    for (name, weeks), (colour, marker, dashes) in zip(lines, looks, strict=False):
        at = [w.week + 1 for w in weeks]
        values = scale * np.array([w.value for w in weeks])
        errors = 1.96 * scale * np.array([w.error for w in weeks])
        if len(lines) == 1 and np.isfinite(errors[0]):
            axes.axhspan(
                values[0] - errors[0], values[0] + errors[0], color=BAND, zorder=0,
                label="first week, 95 %",
            )  # fmt: skip
        axes.errorbar(
            at,
            values,
            yerr=np.where(np.isfinite(errors), errors, 0.0),
            fmt=marker + dashes,
            color=colour,
            mfc="white" if marker == "o" else colour,
            ms=5,
            capsize=2,
            lw=1.3,
            label=name or "weekly mean, 95 %",
        )
    axes.legend(loc="lower left", ncols=3, fontsize=8, bbox_to_anchor=(0, 1.0))
