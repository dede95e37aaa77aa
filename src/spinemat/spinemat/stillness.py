"""Whether a person lies as before, from where fingers at rest stand in a scan."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spinemat.contour import MIN_ROWS, ContourEstimate

Array = NDArray[np.float64]

MOVED = 0.004  # m by which half of the resting fingers stand elsewhere (engineering choice)
SLID, SLID_SURE = 0.008, 4.0  # m along the mat, and over its error: the person slid (choice)


def movement(x: Array, way: Array, contour: ContourEstimate | None) -> str:
    """Say how a person moved between two looks.

    A back that slides along the mat moves every tip by the slope of the skin over it; a breath
    lifts all tips about alike.

    Args:
        x: places of fingers at rest along the mat, shape (k,), m.
        way: by which each stands higher than before, shape (k,), m.
        contour: of the skin; None: not known yet.

    Returns:
        What was seen, for people; empty: the person lies still.
    """
    typical = float(np.median(np.abs(way))) if way.size else 0.0
    if typical > MOVED:
        return f"the person moved by {1e3 * typical:.0f} mm"
    if contour is None or contour.x.size < 2 or x.size < 2 * MIN_ROWS:
        return ""
    slope = np.interp(x, contour.x, np.gradient(contour.z, contour.x))
    design = np.stack([np.ones(x.size), -slope], axis=1)
    inverse = np.linalg.pinv(design.T @ design, hermitian=True)
    fitted = inverse @ (design.T @ way)
    left = way - design @ fitted
    along, error = float(fitted[1]), np.sqrt(inverse[1, 1] * float(left @ left) / (x.size - 2))
    if abs(along) > max(SLID, SLID_SURE * error):
        end = "head" if along > 0.0 else "foot"
        return f"the person slid by {1e3 * abs(along):.0f} mm toward the {end} end"
    return ""
