"""The simulated mat for a report: its picture, and its load beside real pressure maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spinemat.layout import MatLayout
from spinemat_sim.plant import Plant
from spinemat_sim.pressure import METHOD, compare
from spinemat_sim.render import NoOpenGL, render
from spinemat_sim.urdf import expand_urdf


def report_extras(
    layout: MatLayout, mat_config: Path, xacro: Path, person: Any, seed: int, image: Path
) -> dict[str, Any]:
    """Return what a report shows of the simulation beside the session.

    Args:
        layout, mat_config: the mat and the file it came from.
        xacro: path of mat.urdf.xacro.
        person: `spinemat_sim.person.Person` on it.
        seed: of the plant.
        image: PNG file to write.

    Returns:
        "pressure" for `write_report`; "picture" too, or "picture_missing" with the reason, where
        there is no OpenGL.
    """
    urdf = expand_urdf(xacro, mat_config)
    plant = Plant(layout, person, urdf, seed=seed)
    c = compare(plant)
    extra: dict[str, Any] = {
        "pressure": {
            "x": c.x,
            "model": c.model,
            "maps": c.maps,
            "maps_low": c.recordings.min(axis=0),
            "maps_high": c.recordings.max(axis=0),
            "correlation": float(c.correlation),
            "ceiling": float(c.ceiling.mean()),
            "unit": "share of the load",
            "method": METHOD,
        }
    }
    try:
        render(plant, urdf, image)
        extra["picture"] = image
    except NoOpenGL as error:
        extra["picture_missing"] = str(error)
    return extra
