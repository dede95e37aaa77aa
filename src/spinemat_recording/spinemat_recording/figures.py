"""Pictures of a session's report, each as a `data:` address that an <img> takes.

Lines are SVG, heat maps PNG. Two colours that differ for every kind of colour vision, and a
marker of its own for each, stand for before and after.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spinemat.layout import MatLayout
from spinemat_recording.record import Contour, SessionRecord, StiffnessMap

BEFORE, AFTER, TRUTH, STOP, INK = "#2b6ca3", "#c65a11", "#444444", "#b00020", "#333333"
WIDTH = 9.0  # inches, the width of the report's column
COLUMNS = 900  # of a heat map
_ORDER = ("before", "after", "truth", "not valid")  # of a legend
STYLE: Any = {
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#999999",
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "spinemat",
}


def contour_figure(contours: Sequence[Contour], truth: Contour | None, layout: MatLayout) -> str:
    """Draw the skin's contour before and after, and what it really is if that is known."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
        axes = figure.subplots()
        if truth is not None:
            axes.plot(
                1e3 * truth.x, 1e3 * truth.z, color=TRUTH, ls=(0, (4, 2)), lw=1.4, label="truth"
            )
        for contour, name, colour, marker in zip(
            _ends(contours), ("before", "after"), (BEFORE, AFTER), ("o", "s"), strict=False
        ):
            x, z, error = 1e3 * contour.x, 1e3 * contour.z, 1.96e3 * contour.z_std
            axes.fill_between(x, z - error, z + error, color=colour, alpha=0.18, lw=0)
            axes.plot(x, z, color=colour, lw=1.6)
            rows = contour.row_x[contour.valid]
            axes.plot(
                1e3 * rows,
                np.interp(1e3 * rows, x, z),
                marker,
                color=colour,
                mfc="white" if marker == "o" else colour,
                ms=5.5,
                label=f"{name} (marks: rows that felt the back)",
            )
        axes.set_xlabel("along the mat, mm  (foot end → head)")
        axes.set_ylabel("skin above the mat, mm")
        axes.legend(loc="upper left", ncols=3, fontsize=8.5)
        axes.set_ylim(top=axes.get_ylim()[1] * 1.15)
        for row in layout.rows:
            axes.axvline(1e3 * row.x, color="#efefef", lw=0.8, zorder=0)
        return svg(figure)


def stiffness_figure(
    maps: Sequence[StiffnessMap], truth: StiffnessMap | None, levels: Sequence[str], neck: int
) -> str:
    """Draw stiffness with 95 % intervals: both sides together, left, right.

    Args:
        maps: before and, if it was measured, after.
        truth: what the stiffness really is, None when that is not known.
        levels: names from the foot end to the head.
        neck: how many of the last names are regions or levels of the neck.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 6.6), layout="constrained")
        panels = figure.subplots(3, 1, sharex=True, height_ratios=[1.5, 1, 1])
        panels[2].sharey(panels[1])
        for axes, side in zip(panels, ("BOTH", "LEFT", "RIGHT"), strict=True):
            _stiffness_panel(axes, _ends(maps), levels, side)
            if truth is not None and side == "BOTH":
                values = [_value(truth, level, side) for level in levels]
                axes.plot(
                    range(len(levels)), values, "_", color=TRUTH, ms=19, mew=1.8, label="truth"
                )
            if neck:
                axes.axvspan(
                    len(levels) - neck - 0.5, len(levels) - 0.5, color="#f3f0e6", zorder=0
                )
            axes.set_ylabel(
                {"BOTH": "both sides together", "LEFT": "left", "RIGHT": "right"}[side] + "\nN/mm"
            )
            axes.set_ylim(bottom=0)
        top = panels[0]
        if neck:
            top.text(
                len(levels) - neck / 2 - 0.5,
                0.03,
                "neck: regions",
                ha="center",
                va="bottom",
                fontsize=8,
                color="#6b6240",
                transform=top.get_xaxis_transform(),
            )
        handles, labels = top.get_legend_handles_labels()
        order = sorted(range(len(labels)), key=lambda i: _ORDER.index(labels[i].split(",")[0]))
        top.legend(
            [handles[i] for i in order],
            [labels[i] for i in order],
            loc="lower left",
            ncols=4,
            fontsize=8.5,
            bbox_to_anchor=(0, 1.0),
        )
        panels[-1].set_xticks(range(len(levels)), [_short(level) for level in levels])
        panels[-1].set_xlim(-0.6, len(levels) - 0.4)
        panels[-1].set_xlabel("level  (foot end → head)")
        return svg(figure)


def _stiffness_panel(
    axes: Axes, maps: Sequence[StiffnessMap], levels: Sequence[str], side: str
) -> None:
    missing: set[int] = set()
    for k, (entry, name, colour, marker) in enumerate(
        zip(maps, ("before", "after"), (BEFORE, AFTER), ("o", "s"), strict=False)
    ):
        at, values, errors = [], [], []
        for i, level in enumerate(levels):
            found = entry.get(level, side)
            if found is None:
                continue
            if not found.valid or not np.isfinite(found.value):
                missing.add(i)
                continue
            at.append(i + (-0.13, 0.13)[k] if len(maps) > 1 else i)
            values.append(1e-3 * found.value)
            errors.append(1.96e-3 * found.standard_error)
        axes.errorbar(
            at,
            values,
            yerr=errors,
            fmt=marker,
            color=colour,
            ms=5,
            capsize=2,
            lw=1.2,
            mfc="white" if marker == "o" else colour,
            label=f"{name}, 95 % interval",
        )
    if missing:
        axes.plot(
            sorted(missing),
            [0.04] * len(missing),
            "x",
            color="#777777",
            ms=7,
            mew=1.6,
            transform=axes.get_xaxis_transform(),
            label="not valid",
            clip_on=False,
        )


def force_figure(record: SessionRecord, layout: MatLayout) -> str:
    """Draw the force of every finger over the session as two heat maps, left and right."""
    t, force = force_source(record)
    edges = np.linspace(record.start, record.end, COLUMNS + 1)
    image = _binned(t, force, edges)
    minutes = (record.end - record.start) > 180
    scale = 60.0 if minutes else 1.0
    top = max(5.0, float(np.nanmax(image)))
    rows = len(layout.rows)
    with rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(WIDTH, 5.6), layout="constrained")
        panels = figure.subplots(2, 1, sharex=True)
        for side, axes in enumerate(panels):
            drawn = axes.imshow(
                image[:, side::2].T,
                aspect="auto",
                origin="lower",
                cmap="YlGnBu",
                vmin=0.0,
                vmax=top,
                interpolation="nearest",
                extent=(0.0, (record.end - record.start) / scale, -0.5, rows - 0.5),
            )
            axes.set_yticks(
                range(rows), [f"{r.name} {r.region}" for r in layout.rows], fontsize=7.5
            )
            axes.set_ylabel(("left", "right")[side])
            _mark_phases(axes, record, scale, names=side == 0)
        panels[1].set_xlabel(f"time since the start, {'min' if minutes else 's'}")
        figure.colorbar(drawn, ax=panels, label="force on the tip, N", fraction=0.03, pad=0.01)
        return _png(figure)


def _mark_phases(axes: Axes, record: SessionRecord, scale: float, *, names: bool) -> None:
    whole = record.end - record.start
    last = -np.inf
    lift = 0
    for name, start, end in record.phases:
        at = (start - record.start) / scale
        if at > 0:
            axes.axvline(at, color="#555555", lw=0.8, ls=(0, (3, 2)))
        middle = (0.5 * (start + end) - record.start) / scale
        if not names or name == "IDLE" or end <= start:
            continue
        crowded = (middle - last) * scale < 0.075 * whole
        lift = (lift + 1) % 3 if crowded else 0
        axes.annotate(
            name.lower().replace("_", " "),
            (middle, 1.0),
            (0, 3 + 10 * lift),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=INK,
        )
        last = middle
    for time in stop_times(record):
        axes.axvline((time - record.start) / scale, color=STOP, lw=1.6)
        if names:
            axes.annotate(
                "stop",
                ((time - record.start) / scale, 0.97),
                (3, 0),
                ha="left",
                va="top",
                xycoords=axes.get_xaxis_transform(),
                textcoords="offset points",
                fontsize=8,
                color=STOP,
                fontweight="bold",
            )


def rhythm_figure(record: SessionRecord, finger: int, start: float, end: float) -> str:
    """Draw set-point and force of one finger from `start` to `end` (s of drive time)."""
    assert record.fingers is not None
    f = record.fingers
    inside = (f.t >= start) & (f.t <= end)
    t = f.t[inside] - record.start
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
        axes = figure.subplots()
        axes.plot(t, f.set_point[inside, finger], color=TRUTH, ls=(0, (4, 2)), label="set-point")
        axes.plot(t, f.force[inside, finger], color=BEFORE, lw=1.4, label="measured force")
        axes.set_xlabel("time since the start, s")
        axes.set_ylabel("force, N")
        axes.set_ylim(bottom=0)
        axes.legend(loc="lower left", ncols=2, fontsize=8.5, bbox_to_anchor=(0, 1.0))
        return svg(figure)


def breathing_figure(record: SessionRecord) -> str:
    """Draw the breathing rate over the session, in breaths per minute."""
    assert record.breathing is not None
    b = record.breathing
    rate = np.where(b.valid, 60.0 * b.rate, np.nan)
    step = max(1, rate.size // 1500)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.1), layout="constrained")
        axes = figure.subplots()
        axes.plot(b.t[::step] - record.start, rate[::step], color=BEFORE, lw=1.4)
        known = rate[np.isfinite(rate)]
        if known.size:
            axes.set_ylim(min(8.0, known.min() - 1), max(20.0, known.max() + 1))
        axes.set_xlim(0, record.end - record.start)
        axes.set_xlabel("time since the start, s")
        axes.set_ylabel("breaths per minute")
        return svg(figure)


def load_figure(pressure: dict[str, Any]) -> str:
    """Draw the share of load along the back against the published pressure maps."""
    x = 1e3 * np.asarray(pressure["x"], dtype=float)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        axes = figure.subplots()
        if "maps_low" in pressure and "maps_high" in pressure:
            axes.fill_between(
                x,
                pressure["maps_low"],
                pressure["maps_high"],
                color="#cccccc",
                alpha=0.6,
                lw=0,
                label="published maps, range",
            )
        if "maps" in pressure:
            axes.plot(x, pressure["maps"], color=TRUTH, ls=(0, (4, 2)), label="published maps")
        axes.plot(x, pressure["model"], color=BEFORE, lw=1.8, label="this mat")
        axes.set_xlabel("along the mat, mm  (foot end → head)")
        axes.set_ylabel(str(pressure.get("unit", "share of the load")))
        axes.set_ylim(bottom=0)
        axes.legend(loc="lower left", ncols=3, fontsize=8.5, bbox_to_anchor=(0, 1.0))
        return svg(figure)


def picture(path: str | Path) -> str:
    """Return a picture file as a `data:` address, made smaller when it is large.

    Raises:
        OSError: the file cannot be read or is not a picture.
    """
    from PIL import Image

    data = Path(path).read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        if image.format == "PNG" and len(data) < 700_000:
            return _address("image/png", data)
        image.thumbnail((1400, 1400))
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=85, optimize=True)
    return _address("image/jpeg", buffer.getvalue())


def force_source(record: SessionRecord) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return times (m,) in s and forces (m, n) in N, the best that was recorded."""
    source = record.fingers or record.drive
    if source is None:
        return np.zeros(0), np.zeros((0, 0))
    return source.t, source.force


def stop_times(record: SessionRecord) -> list[float]:
    """Return the times in s at which the safety supervisor went into STOPPED."""
    if record.safety is None:
        return []
    stopped = record.safety.state == 3
    times: list[float] = record.safety.t[1:][stopped[1:] & ~stopped[:-1]].tolist()
    return times


def _binned(
    t: NDArray[np.float64], force: NDArray[np.float64], edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the largest force per time bin, shape (bins, n); an empty bin repeats the last."""
    n = edges.size - 1
    index = np.clip(np.searchsorted(edges, t, side="right") - 1, 0, n - 1)
    image = np.full((n, force.shape[1]), -np.inf)
    np.maximum.at(image, index, force)
    empty = np.isneginf(image[:, 0])
    image[empty] = 0.0
    if empty.any() and not empty.all():
        last = np.maximum.accumulate(np.where(empty, 0, np.arange(n)))
        image = image[last]
    largest: NDArray[np.float64] = np.maximum(image, 0.0)
    return largest


def _ends(items: Sequence[Any]) -> list[Any]:
    """Return the first and, if there are more, the last item."""
    return [items[0], items[-1]] if len(items) > 1 else list(items)


def _value(entry: StiffnessMap, level: str, side: str) -> float:
    found = entry.get(level, side)
    return 1e-3 * found.value if found is not None else float("nan")


def _short(level: str) -> str:
    return level.replace(" ", "\n")


def svg(figure: Figure) -> str:
    """Return a figure as a `data:` address of an SVG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return _address("image/svg+xml", buffer.getvalue())


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return _address("image/png", buffer.getvalue())


def _address(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
