"""A plan and its forecast as people read them: a table, the reasons, a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from spinemat.back_model import UP
from spinemat.errors import InvalidInput
from spinemat.session_programme import MOST
from spinemat_bringup.cli_common import console
from spinemat_bringup.cli_person import bullets, spans

if TYPE_CHECKING:
    from spinemat.forecast import Forecast
    from spinemat.layout import MatLayout
    from spinemat.plan import SessionPlan


def show_forecast(plan: SessionPlan, result: Forecast, limit: NDArray[np.float64]) -> None:
    """Print what each level is expected to get beside `own_limits`, why, and the notes."""
    table = Table(
        title="Expected at each level, the most of the session",
        title_justify="left",
        caption=f"{result.time / 60.0:.1f} min, {result.pressing / 60.0:.1f} of them pressing",
        caption_justify="left",
    )
    for column in ("levels", "force, N", "limit, N", "depth, mm", "work, J", "presses"):
        table.add_column(column, justify="left" if column == "levels" else "right")
    rows = []
    for i, dose in enumerate(plan.levels):
        figures = (
            f"{result.force[i]:.1f}",
            f"{limit[i]:.1f}",
            f"{1e3 * result.indentation[i]:.1f}",
            f"{result.work[i]:.1f}",
            f"{dose.cycles:.0f}",
        )
        unpressed = ("–", "–" if np.isnan(limit[i]) else f"{limit[i]:.1f}", "", "", "")
        rows.append((dose.level, figures if dose.cycles else unpressed))
    for levels, cells in spans(reversed(rows)):
        table.add_row(levels, *cells)
    console.print(table)
    console.print("[bold]Why[/]")
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    for levels, why in spans((dose.level, dose.why) for dose in reversed(plan.levels)):
        grid.add_row(f" {levels}", Text("\n".join(why)))
    console.print(grid)
    if plan.notes:
        console.print("[bold]Notes[/]")
        bullets(plan.notes)


def draw_forecast(title: str, result: Forecast, limit: NDArray[np.float64], path: Path) -> None:
    """Draw the force at each level, head first, beside `own_limits`, as a PNG.

    Raises:
        InvalidInput: the file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(10, 4))
    places = np.arange(len(UP))
    axes.bar(places, result.force[::-1], color="C0", label="expected, largest of a finger")
    axes.hlines(
        limit[::-1], places - 0.5, places + 0.5, color="C3",
        label="limit of a finger for this person, today",
    )  # fmt: skip
    axes.set_xticks(places, UP[::-1])
    axes.set(title=title, ylabel="force, N", ylim=(0.0, 1.15 * max(np.nanmax(limit), 1.0)))
    axes.legend(loc="upper left")
    figure.tight_layout()
    try:
        figure.savefig(path, dpi=110, format="png")
    except OSError as error:
        allowed = f"a place to write to ({error.strerror})"
        raise InvalidInput("picture", str(path), allowed) from error
    finally:
        pyplot.close(figure)


def own_limits(plan: SessionPlan, layout: MatLayout) -> NDArray[np.float64]:
    """Limit of a finger at each level for this person and today, L5 first, shape (24,), N.

    The press limit times what screening, age, comfort and the ledger leave of it, at the rows that
    load the level; a plan stays within `MOST` of it. NaN where no row loads it.
    """
    beside = plan.on_mat(layout).beside
    most = (beside * plan.allowed[::2, None]).max(axis=0) / MOST
    return np.where(beside.any(axis=0), most, np.nan)
