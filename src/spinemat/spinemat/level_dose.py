"""How much each level of one person may and should get, with a sentence for every reason.

Two numbers per level: `caution`, what must not be exceeded (screening, age, comfort, the last
days), and `drive`, what the measurement suggests within it (stiffer or softer than the person's
own trend, how sure that is, mobility or stability). Arrays are in ascending x: L5 first, C1 last.
That a dose which fits the stiffness helps more is not shown; it is how clinicians dose.
All constants here are engineering choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import NECK, TRUNK, Intake
from spinemat.back_model import UP, means
from spinemat.conditions import AGE_SHARES
from spinemat.contour import expected_place
from spinemat.errors import InvalidInput
from spinemat.layout import MatLayout
from spinemat.ledger import Advice
from spinemat.questionnaire import PersonRecord
from spinemat.screening import Screening
from spinemat.stiffness import LevelEstimate
from spinemat.symptoms import mobility_share, suggest

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

SURE, UNSURE = 0.10, 0.30  # standard error over the value: full dose up to, least dose from
CAREFUL = 0.65  # of the dose where the stiffness is unsure or not known
STIFF = 1.10  # of the own trend, less one standard error: more force and one set more
MOST_STIFF = 1.15  # most that stiffness adds to the force, times
SOFT = 0.85  # of the own trend: less force and one set fewer
LEAST_SOFT = 0.70  # least that softness leaves of the force, times
LEAST_MOBILE = 0.75  # of the force when everything points to stability
EMPHASIS = 0.3  # weight of complaints at a level from which it gets one set more
HEALTHY = 0.8  # caution below which no level gets more sets
NO_MORE_SETS = 65.0  # years from which no level gets more sets
FEWEST = 3  # measured trunk levels that make a trend


@dataclass(frozen=True)
class Felt:
    """What a scan felt; `prior` before there is one.

    Attributes:
        height: of the skin under each finger, shape (n,), m; NaN: no contact.
        x: of the levels, shape (24,), m.
        value: PA stiffness of pairs on the levels, shape (24,), N/m; NaN where unknown.
        error: its standard error, shape (24,), N/m; NaN where unknown.
        valid: levels whose value may be used, shape (24,).

    Raises:
        InvalidInput: a shape is wrong, levels are out of order, or a valid value is not positive.
    """

    height: Array
    x: Array
    value: Array
    error: Array
    valid: Mask

    def __post_init__(self) -> None:
        for name in ("x", "value", "error", "valid"):
            _shape(f"felt.{name}", getattr(self, name))
        if not np.isfinite(self.x).all() or not (np.diff(self.x) > 0.0).all():
            raise InvalidInput("felt.x", "levels", "finite and ascending, L5 first")
        for name in ("value", "error"):
            used = getattr(self, name)[self.valid]
            if not (np.isfinite(used) & (used > 0.0)).all():
                raise InvalidInput(f"felt.{name}", "valid levels", "finite and above 0 N/m")

    @staticmethod
    def prior(layout: MatLayout, intake: Intake) -> Felt:
        """What is expected before a scan: published means, none of them counted as known."""
        levels, unknown = expected_place(intake).levels, np.full(len(UP), np.nan)
        x = np.array([levels[v] for v in UP])
        return Felt(np.zeros(layout.n), x, unknown, unknown, np.zeros(len(UP), dtype=bool))

    @staticmethod
    def of_scan(height: Array, levels: Sequence[LevelEstimate]) -> Felt:
        """What a scan's estimates say; those of single sides and of the neck's parts are left.

        Args:
            height: of the skin under each finger, shape (n,), m; NaN: no contact.
            levels: C1 … L5, side `both`, each once among others.

        Raises:
            InvalidInput: a level is missing, or as above.
        """
        both = {e.level: e for e in levels if e.side == "both"}
        missing = [v for v in UP if v not in both]
        if missing:
            raise InvalidInput("felt.levels", f"no {missing[0]}", "C1 … L5, side both")
        found = [both[v] for v in UP]
        x, value, error = np.array([(e.x, e.value, e.error) for e in found]).T
        return Felt(height, x, value, error, np.array([e.valid for e in found]))

    @property
    def trend(self) -> float:
        """The person's stiffness over the published profile: median of the trunk's, or 1."""
        use = self.valid & np.isin(UP, TRUNK)
        if np.count_nonzero(use) < FEWEST:
            return 1.0
        return float(np.median(self.value[use] / means()[use]))

    @property
    def believed(self) -> Array:
        """Stiffness that a plan reckons with, shape (24,), N/m: measured, else the trend."""
        return np.where(self.valid, self.value, self.trend * means())


@dataclass(frozen=True)
class Needs:
    """What record, screening and symptoms say of a person, as plain numbers.

    Attributes:
        level_factors: from screening, 0 (never pressed) to 1, shape (24,).
        emphasis: share of the complaints that points to each level, 0 to 1, shape (24,).
        mobility: share of mobility, 0 (all stability) to 1.
        ceilings: share of the press limit that today's reports of pain leave, shape (24,).
        notes: sentences of screening and symptoms, kept with the plan.

    Raises:
        InvalidInput: a shape is wrong or a value is outside 0 to 1.
    """

    level_factors: Array
    emphasis: Array
    mobility: float
    ceilings: Array
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("level_factors", "emphasis", "ceilings"):
            value = getattr(self, name)
            _shape(f"needs.{name}", value)
            if not ((value >= 0.0) & (value <= 1.0)).all():
                raise InvalidInput(f"needs.{name}", value.tolist(), "24 values of 0 to 1")
        if not 0.0 <= self.mobility <= 1.0:
            raise InvalidInput("needs.mobility", self.mobility, "0 to 1")

    @property
    def most(self) -> Array:
        """Share of any force that a level may get, whatever is measured, shape (24,)."""
        return np.asarray(np.minimum(self.level_factors, self.ceilings))

    @staticmethod
    def of_answers(record: PersonRecord, screening: Screening) -> Needs:
        """What a plan takes from a person's answers: limits, complaints and sentences.

        Args:
            record: of the person.
            screening: of that record.
        """
        hint, split = suggest(record.symptoms), mobility_share(record.symptoms)
        source = [f"Source of the levels suggested: {hint.source}."] if hint.why else []
        return Needs(
            level_factors=np.where(screening.pressed, screening.factor, 0.0),
            emphasis=hint.weight,
            mobility=split.mobility,
            ceilings=np.ones(len(UP)),
            notes=(*screening.reasons, *hint.why, split.why, *source),
        )

    @staticmethod
    def none() -> Needs:
        """Nobody's: no condition, no complaint, as much mobility as stability."""
        return Needs(np.ones(len(UP)), np.zeros(len(UP)), 0.5, np.ones(len(UP)))


@dataclass(frozen=True)
class LevelRule:
    """What holds for the levels of one person; shape (24,) each.

    Attributes:
        caution: factor that nothing may raise, 0 to 1.
        ceiling: share of the press limit that nothing may exceed, 0 to 1.
        drive: factor on top, about `LEAST_SOFT` times `CAREFUL` to `MOST_STIFF`.
        sets: sets more or fewer that are wanted, -1, 0 or 1; time and neighbours decide.
        may_add: whether anything beside may get a set more, bool.
        why: sentences per level.
    """

    caution: Array
    ceiling: Array
    drive: Array
    sets: NDArray[np.int64]
    may_add: Mask
    why: tuple[tuple[str, ...], ...]


def level_rules(intake: Intake, felt: Felt, needs: Needs, advice: Advice) -> LevelRule:
    """Find what holds for each level, and say why.

    Args:
        intake: of the person.
        felt: what the scan felt.
        needs: from screening and symptoms.
        advice: what the last days and weeks say (`ledger.advise`).
    """
    age = min((share for years, share in AGE_SHARES if intake.age >= years), default=1.0)
    screened = np.minimum(needs.level_factors, age)
    caution = screened * advice.share
    drive, sets = np.ones(len(UP)), np.zeros(len(UP), dtype=np.int64)
    may_add = (screened >= HEALTHY) & (intake.age < NO_MORE_SETS)
    trend = felt.trend
    why: list[tuple[str, ...]] = []
    for i, level in enumerate(UP):
        said = []
        if needs.level_factors[i] <= 0.0:
            said.append("Screening: left out.")
        elif needs.level_factors[i] < 1.0:
            said.append(
                f"Screening (conditions, age, comfort limits; see the notes): force × "
                f"{needs.level_factors[i]:.2f}."
            )
        if age < needs.level_factors[i]:
            said.append(f"Age {intake.age:g}: force × {age:.2f}.")
        if felt.valid[i]:
            words, drive[i], sets[i] = _of_stiffness(felt.value[i], felt.error[i], i, trend)
            said += words
        else:
            drive[i] = CAREFUL
            said.append(f"{_unknown(level)}: lower dose, force × {CAREFUL:.2f}.")
        if needs.mobility < 0.5:
            factor = LEAST_MOBILE + (1.0 - LEAST_MOBILE) * 2.0 * needs.mobility
            drive[i] *= factor
            said.append(
                f"Complaints point to stability ({1.0 - needs.mobility:.0%}):"
                f" mobilisation × {factor:.2f}."
            )
        if needs.emphasis[i] >= EMPHASIS and sets[i] == 0:
            sets[i] = 1
            said.append(f"Complaints point here ({needs.emphasis[i]:.0%}).")
        if not may_add[i] and (sets[i] > 0 or drive[i] > 1.0):
            sets[i], drive[i] = min(sets[i], 0), min(drive[i], 1.0)
            said.append("Screening or age: neither more force nor more sets than without it.")
        if needs.ceilings[i] < 1.0:
            said.append(f"Comfort reports: at most {needs.ceilings[i]:.0%} of the press limit.")
        why.append((*said, *advice.why[i]))
    may_add &= sets >= 0
    return LevelRule(caution, needs.ceilings.copy(), drive, sets, may_add, tuple(why))


def _of_stiffness(
    value: float, error: float, i: int, trend: float
) -> tuple[list[str], float, int]:
    """Sentences, factor of the force and sets of a measured level."""
    spread, ratio = error / value, value / (trend * means()[i])
    seen = f"Stiffness {1e-3 * value:.1f} ± {1e-3 * error:.1f} N/mm, {ratio:.2f} of the own trend"
    surely = ratio * (1.0 - spread)
    if surely >= STIFF:
        factor, more = min(surely, MOST_STIFF), 1
        said = [f"{seen}, surely stiffer: force × {factor:.2f}."]
    elif ratio <= SOFT:
        factor, more = max(ratio, LEAST_SOFT), -1
        said = [f"{seen}, softer: force × {factor:.2f}, for stability."]
    else:
        factor, more = 1.0, 0
        said = [f"{seen}: within what counts as even."]
    if spread > SURE:
        unsure = min((spread - SURE) / (UNSURE - SURE), 1.0)
        careful = 1.0 - unsure * (1.0 - CAREFUL)
        factor *= careful
        said.append(f"Known only to ± {spread:.0%}: lower dose, force × {careful:.2f}.")
    return said, factor, more


def _unknown(level: str) -> str:
    if level in NECK:
        return "The neck's levels cannot be told apart"
    return "Stiffness not known here"


def _shape(name: str, value: Array | Mask) -> None:
    if np.shape(value) != (len(UP),):
        raise InvalidInput(name, np.shape(value), f"shape ({len(UP)},), L5 first")
