"""A patient lying face up on the mat: where the levels are and how the back curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spinemat.errors import choice
from spinemat_sim.contour import lying
from spinemat_sim.patient import LEVELS, Patient
from spinemat_sim.population import HEIGHTS

LUMBAR_LYING = 0.74  # T12-S1 lying over standing, PMC6680033
THORACIC_LYING = 0.6  # choice: ribs and skin flatten on the padding
CERVICAL_LYING = 1.0  # choice: as standing, without a pillow


@dataclass(frozen=True)
class Person:
    """A patient lying on the mat; SI units, frame `mat`.

    Level tuples follow `patient.LEVELS`, from L5 at the foot end to C1.

    Attributes:
        patient: who that is.
        x: middle of each level along the mat, m.
        s1_x: upper edge of the sacrum along the mat, m.
        kyphosis: angle between the skin's tangents at T1 and T12 lying, rad.
        lordosis: angle between the skin's tangents at T12 and S1 lying, rad.
        cervical_lordosis: angle between the skin's tangents at C1 and T1 lying, rad.
    """

    patient: Patient
    x: tuple[float, ...]
    s1_x: float
    kyphosis: float
    lordosis: float
    cervical_lordosis: float

    @property
    def level_x(self) -> dict[str, float]:
        """Middle of each level along the mat by its name, L5 first, m."""
        return dict(zip(LEVELS, self.x, strict=True))

    def x_of(self, level: str) -> float:
        """Middle of `level` (``C1`` … ``L5``; ``S1``: its upper edge) along the mat, m.

        Raises:
            InvalidInput: there is no such level.
        """
        choice("level", level, (*LEVELS, "S1"))
        return self.s1_x if level == "S1" else self.x[LEVELS.index(level)]

    def y_at(self, x: ArrayLike) -> NDArray[np.float64]:
        """Where the spine's line is across the mat at x, shape of x, m."""
        place = self.patient.position
        return place.across + np.tan(place.rotation) * (np.asarray(x) - self.x_of("T8"))


def lie_down(patient: Patient) -> Person:
    """Lay a patient on the mat.

    The distance C7 to L4 is the difference of the standing heights of C7 and of the iliac crest;
    lying length is taken equal to standing length. Level heights are scaled to it, also above C7
    and below L4.
    """
    m = patient.measures
    heights = HEIGHTS * np.array(patient.heights)
    middle = np.cumsum(heights) - 0.5 * heights
    back = float(middle[LEVELS.index("C7")] - middle[LEVELS.index("L4")])
    scale = (m.c7_height - m.iliac_height) / back
    s1_x = patient.position.along
    return lying(
        Person(
            patient=patient,
            x=tuple((s1_x + scale * middle).tolist()),
            s1_x=s1_x,
            kyphosis=THORACIC_LYING * patient.kyphosis,
            lordosis=LUMBAR_LYING * patient.lordosis,
            cervical_lordosis=CERVICAL_LYING * patient.cervical_lordosis,
        )
    )
