"""The picture of `spinemat patient validate`: model beside published values, in nine panels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spinemat_bringup.validate import CURVE_LEVELS, RATES, Findings
from spinemat_sim.patient import MEAN_STIFFNESS
from spinemat_sim.population import bodies
from spinemat_sim.trunk import REGIONS

Array = NDArray[np.float64]

MODEL, PUBLISHED, THIRD, GREY = "#2b6ca3", "#c65a11", "#3a7d44", "#999999"
_STYLE: Any = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "axes.titlesize": 10.0,
}


def draw(found: Findings, path: Path) -> None:
    """Write the panels as a PNG file.

    Args:
        found: results of all experiments and trials.
        path: of the picture.
    """
    panels: tuple[tuple[str, Callable[[Findings, Axes], None]], ...] = (
        ("PA stiffness of a pair, mean adult", _stiffness),
        ("Force over indentation of a pair", _curves),
        ("Loss factor", _loss),
        ("Creep under a constant force", _creep),
        ("Load of the regions, fingers down", _loads),
        ("Load along the back, man of 1.90 m, 96 kg", _maps),
        ("Sampled people and the survey", _people),
        ("All fingers at their limits lift the thorax", _lifted),
        ("Reduced-order twin against plant", _twin),
    )
    with rc_context(_STYLE):
        figure = Figure(figsize=(13.0, 11.0), layout="constrained")
        for axes, (title, panel) in zip(figure.subplots(3, 3).flat, panels, strict=True):
            axes.set_title(title, loc="left")
            panel(found, axes)
        figure.savefig(path, dpi=110)


def _stiffness(found: Findings, axes: Axes) -> None:
    x = np.arange(len(found.stiffness))
    anchors = 1e-3 * np.array([MEAN_STIFFNESS[level] for level in found.stiffness])
    model = 1e-3 * np.array(list(found.stiffness.values()))
    axes.errorbar(
        x, anchors, 0.05 * anchors, fmt="s", color=PUBLISHED, capsize=4, label="published ± 5 %"
    )
    axes.plot(x, model, "o", color=MODEL, label="measured in the plant")
    axes.set_xticks(x, list(found.stiffness))
    axes.set_ylabel("N/mm")
    axes.set_ylim(0.0)
    axes.legend(loc="lower right")


def _curves(found: Findings, axes: Axes) -> None:
    for level, colour in zip(CURVE_LEVELS, (MODEL, PUBLISHED, THIRD), strict=True):
        curve = found.curves[level]
        travel = 1e3 * (curve.travel - curve.travel[0])
        axes.plot(travel, curve.force, "o-", ms=4, color=colour, label=level)
    axes.set_xlabel("indentation since the first point, mm")
    axes.set_ylabel("N")
    axes.legend()


def _loss(found: Findings, axes: Axes) -> None:
    levels = list(found.loss[RATES[0]])
    for rate, colour, marker in zip(RATES, (MODEL, THIRD), "os", strict=True):
        values = list(found.loss[rate].values())
        axes.plot(levels, values, marker, color=colour, label=f"{rate:g} Hz")
    axes.axhspan(0.15, 0.25, color=PUBLISHED, alpha=0.15, lw=0, label="0.2 ± 0.05 at 0.5 Hz")
    axes.axhline(0.12, color=PUBLISHED, ls="--", lw=1.0, label="least at 1.5 Hz")
    axes.set_ylim(0.0, 0.3)
    axes.legend(loc="lower right", ncols=2)


def _creep(found: Findings, axes: Axes) -> None:
    for (level, (time, travel)), colour in zip(
        found.creep.items(), (MODEL, THIRD, GREY), strict=True
    ):
        axes.plot(time, travel / np.interp(120.0, time, travel), color=colour, label=level)
    axes.errorbar(
        [30.0], [0.69], [0.10], fmt="s", color=PUBLISHED, capsize=4, label="published in 30 s"
    )
    axes.set_xlabel("s")
    axes.set_ylabel("share of two minutes' creep")
    axes.legend(loc="lower right")


def _loads(found: Findings, axes: Axes) -> None:
    x = np.arange(len(REGIONS))
    axes.axhspan(0.95, 1.05, color=PUBLISHED, alpha=0.15, lw=0, label="mass fractions ± 5 %")
    axes.plot(x, found.loads, "o", color=MODEL, label="model")
    axes.set_xticks(x, REGIONS)
    axes.set_ylim(0.8, 1.2)
    axes.set_ylabel("of the region's weight")
    axes.legend(loc="lower right")


def _maps(found: Findings, axes: Axes) -> None:
    c = found.maps
    assert c is not None
    x = 1e3 * c.x
    axes.fill_between(
        x, c.recordings.min(axis=0), c.recordings.max(axis=0), color=PUBLISHED, alpha=0.15, lw=0,
        label="nine recordings",
    )  # fmt: skip
    axes.plot(x, c.maps, color=PUBLISHED, label="their mean")
    axes.plot(x, c.model, color=MODEL, label=f"model, r = {c.correlation:.2f}")
    axes.set_xlabel("along the mat, mm (foot end → head)")
    axes.set_ylabel("share of the load")
    axes.set_ylim(0.0, 1.25 * axes.get_ylim()[1])
    axes.legend(loc="upper right", title=f"recordings among each other {c.ceiling.mean():.2f}")


def _people(found: Findings, axes: Axes) -> None:
    _, stature, mass = bodies()
    axes.plot(100.0 * stature, mass, ".", ms=2, color="#cccccc", label="survey")
    mine = np.array([(p.stature, p.mass) for p in found.people])
    axes.plot(100.0 * mine[:, 0], mine[:, 1], "o", ms=3.5, color=MODEL, label="sampled")
    axes.set_xlabel("stature, cm")
    axes.set_ylabel("mass, kg")
    axes.legend(loc="upper left")


def _lifted(found: Findings, axes: Axes) -> None:
    mass = [p.mass for p in found.people]
    for i, colour, name in ((0, PUBLISHED, "at the limits"), (1, MODEL, "within regional sums")):
        axes.plot(mass, [1e3 * s[i].rise for s in found.stress], "o", ms=3.5, color=colour,
                  label=name)  # fmt: skip
    axes.set_xlabel("mass, kg")
    axes.set_ylabel("rise of the thorax, mm")
    axes.set_ylim(0.0)
    axes.legend(loc="upper right")


def _twin(found: Findings, axes: Axes) -> None:
    for what, colour in (("indentation", MODEL), ("work", THIRD), ("warning", PUBLISHED)):
        error = 100.0 * np.sort(np.abs(np.concatenate([getattr(a, what) for a in found.twin])))
        if len(error):
            share = np.arange(1, len(error) + 1) / len(error)
            axes.step(error, share, where="post", color=colour, label=what)
    axes.axvline(10.0, color=GREY, ls="--", lw=1.0)
    axes.set_xlabel("error, %")
    axes.set_ylabel("share of cases")
    axes.set_xlim(0.0, 12.0)
    axes.legend(loc="lower right")
