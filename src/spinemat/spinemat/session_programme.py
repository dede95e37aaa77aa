"""Programmes as data: one YAML file each, phases in order, checked before anything else.

`docs/programmes.md` explains the format; `config/programme.schema.json` is written from the same
table (`schema`). A programme says what is wanted from an average back; `dosing.plan_session` makes
of it what one person gets. Ranges are engineering choices within what has been studied (0.1 to
4.5 Hz, 10 to 120 s, 0 to 128 N; scoping review, medRxiv 2023.07.20.23292952).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeAlias

import yaml

from spinemat.anatomy import HEAVIEST, TRUNK, region_of
from spinemat.errors import InvalidInput
from spinemat.layout import MatLayout
from spinemat.plain_yaml import PlainLoader
from spinemat.press import GATED_RATE
from spinemat.press_goal import MAX_DURATION, Waveform, check_goal
from spinemat.programme_fields import (
    Choice,
    Number,
    OneOfKinds,
    Some,
    Text,
    refuse,
    setting,
    take,
)
from spinemat.programme_fields import schema as record_schema

FORMAT = 1  # version of the format
# Forces of cervical grades I to IV (Snodgrass: mean peaks 22, 35, 58, 61 N by hand) over that of
# grade IV, times the 0.95 of a press limit that set-points keep to; as shares of this mat's limits
# for all regions an engineering choice
GRADES = {"I": 0.34, "II": 0.55, "III": 0.90, "IV": 0.95}
MOST = 0.95  # of a press limit: set-points keep 5 % below (engineering choice)
LIGHT = 0.35  # of a press limit, most that a stability phase presses (engineering choice)
PRELOAD = 2.0  # N per finger, least between two presses (engineering choice)
MOST_BASE = 8.0  # N per finger, most between two presses: below a static hold (choice)
RAISED = 0.5  # of the peak from which grade IV and stability press (engineering choice)
AREAS = {
    "neck": ("neck",),
    "thoracic": ("thoracic",),
    "lumbar": ("lumbar",),
    "trunk": ("thoracic", "lumbar"),
    "spine": ("neck", "thoracic", "lumbar"),
}
PATTERNS = (
    "wave_up", "wave_down", "together", "alternating", "left", "right", "pelvic_rocking", "cat_cow"
)  # fmt: skip
AT_ONCE = ("together", "left", "right")  # patterns whose fingers all peak at one moment
ONLY_IN = {"pelvic_rocking": "lumbar", "cat_cow": "trunk"}
FULL_TIME = 300.0  # s, longest full scan (ScanSpine.action)
QUICK_TIME = 60.0  # s, about what a scan takes that does not probe every row alone
RESCAN_TIME = QUICK_TIME - 9.0  # s: contact is known
AROUND = 4.0  # s around the rhythm of a press: approach, load, unload, the way back
MOST_PRESSING = 20 * 60.0  # s in a session (engineering choice)
LONGEST = 60 * 60.0  # s, a session (bound of the device)
BREATHS = 6.0  # per minute, slow led breathing (engineering choice)
OFF_TIME = 0.15  # of the minutes that a programme says, by which it may differ (choice)
OFF_STEP = 0.02  # by which led breath and rhythm may differ in step (engineering choice)

MOST_LETTERS, MOST_BRACKETS = 20000, 500  # of a file: more keeps the YAML parser busy (choice)

_AREA = Choice(tuple(AREAS))
_TRUNK = Some(TRUNK)
_LEVELS = "levels T1 … L5; the neck's cannot be told apart: name it as a region"
_BREATHING = Choice(("gated", "led", "free"))
_GATED = "gated: peaks while breathing out (to 0.5 Hz); led: the mat leads the breath; free"
_RATE = Number(0.2, 1.5, "Hz")
_SET = Number(1.0, MAX_DURATION, "s")
_BREATHS = Number(4.0, 20.0, "per minute")


@dataclass(frozen=True, kw_only=True)
class _Phase:
    kind: ClassVar[str]
    either: ClassVar[tuple[tuple[str, str], ...]] = ()


@dataclass(frozen=True, kw_only=True)
class Scan(_Phase):
    """Feel contour and stiffness."""

    kind = "scan"
    detail: str = setting(
        Choice(("quick", "full")), "full presses every row alone, within 300 s", "quick"
    )


@dataclass(frozen=True, kw_only=True)
class Rescan(_Phase):
    """Feel both again; the person has not got up."""

    kind = "rescan"


@dataclass(frozen=True, kw_only=True)
class _Press(_Phase):
    either = (("region", "levels"), ("grade", "intensity"))
    region: str | None = setting(_AREA, "where, by region", None)
    levels: tuple[str, ...] | None = setting(_TRUNK, f"where, by level: {_LEVELS}", None)
    grade: str | None = setting(Choice(tuple(GRADES)), "how much, as grade of mobilisation", None)
    intensity: float | None = setting(
        Number(0.0, MOST), "how much, as peak over the region's press limit; 0: contact only", None
    )
    rate: float = setting(_RATE, "cycles of the rhythm, Hz")
    duration: float = setting(_SET, "of a set, s")
    breathing: str = setting(_BREATHING, _GATED, "free")
    breaths: float = setting(_BREATHS, "per minute, when led", BREATHS)

    @property
    def share(self) -> float:
        """Peak over the press limit."""
        return GRADES[self.grade] if self.grade else float(self.intensity or 0.0)

    @property
    def led_breaths(self) -> float:
        """Breaths per minute that the cue leads; 0: no cue."""
        return self.breaths if self.breathing == "led" else 0.0

    @property
    def raised(self) -> bool:
        """Whether it presses from a raised base, with small amplitude."""
        return self.grade == "IV"


@dataclass(frozen=True, kw_only=True)
class Mobilise(_Press):
    """Gentle rhythmic pressure in sets."""

    kind = "mobilise"
    pattern: str = setting(Choice(PATTERNS), "which fingers press when; docs/programmes.md")
    sets: int = setting(Number(1, 6, whole=True), "how often", 1)
    rest: float = setting(Number(0.0, 300.0, "s"), "between two sets, s", 0.0)


@dataclass(frozen=True, kw_only=True)
class Flow(_Press):
    """A wave that travels over the levels."""

    kind = "flow"
    direction: str = setting(Choice(("up", "down")), "toward the head or the feet")
    sets: ClassVar[int] = 1
    rest: ClassVar[float] = 0.0

    @property
    def pattern(self) -> str:
        """Its pattern."""
        return f"wave_{self.direction}"


@dataclass(frozen=True, kw_only=True)
class Stability(_Phase):
    """Light even support that the person feels and moves on; a small rhythm, never a hold."""

    kind = "stability"
    region: str = setting(_AREA, "where")
    intensity: float = setting(Number(0.0, LIGHT), "peak over the region's press limit")
    rate: float = setting(_RATE, "of the small rhythm, Hz", 0.2)
    duration: float = setting(_SET, "s")
    cue: str = setting(
        Text(r"\S[^\n\r]*", 200, "one line of text"), "what the person is asked to do", "lie easy"
    )
    levels: ClassVar[None] = None
    pattern: ClassVar[str] = "together"
    breathing: ClassVar[str] = "free"
    raised: ClassVar[bool] = True
    sets: ClassVar[int] = 1
    rest: ClassVar[float] = 0.0

    @property
    def share(self) -> float:
        """Peak over the press limit."""
        return self.intensity


@dataclass(frozen=True, kw_only=True)
class Settle(_Phase):
    """Rest at contact, with a cue for the breath."""

    kind = "settle"
    duration: float = setting(Number(5.0, 600.0, "s"), "s")
    breaths: float = setting(_BREATHS, "per minute that the cue leads", BREATHS)
    region: str = setting(_AREA, "where fingers touch", "spine")


Pressing: TypeAlias = Mobilise | Flow | Stability
Phase: TypeAlias = Scan | Rescan | Mobilise | Flow | Stability | Settle
KINDS: dict[str, type[Phase]] = {
    c.kind: c for c in (Scan, Mobilise, Flow, Stability, Settle, Rescan)
}


@dataclass(frozen=True, kw_only=True)
class Programme:
    """A programme; build it with `load_programme` or `parse_programme`."""

    either: ClassVar[tuple[tuple[str, str], ...]] = ()
    version: int = setting(Number(FORMAT, FORMAT, whole=True), "of this format")
    name: str = setting(
        Text(r"[a-z][a-z0-9_]*", 40, "small letters, digits and _"), "as the file is called"
    )
    revision: int = setting(Number(1, 9999, whole=True), "of this programme, counted up")
    title: str = setting(Text(r"\S[^\n\r]*", 80, "one line of text"), "for people")
    about: str = setting(Text(r"\S[^\n\r]*", 400, "one line of text"), "what it is meant for")
    minutes: float = setting(Number(0.5, 60.0, "min"), "that it is meant to take")
    weeks: int = setting(
        Number(0, 52, whole=True), "of a course that begins gently; 0: no course", 0
    )
    phases: tuple[Phase, ...] = setting(OneOfKinds(KINDS, 60), "in order")


class Timing(NamedTuple):
    """How long a programme takes on an average back, s."""

    total: float
    pressing: float


def schema() -> dict[str, Any]:
    """The format as JSON schema, which `config/programme.schema.json` holds."""
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"SpineMat programme, format {FORMAT}",
    }
    return head | record_schema(Programme)


def parse_programme(data: Any) -> Programme:
    """Check the content of a programme's file and build the programme.

    Raises:
        InvalidInput: a field is missing, unknown or not acceptable. Never anything else.
    """
    return take(Programme, data)


def load_programme(path: str | Path) -> Programme:
    """Read a programme from a YAML file that is called like it.

    Raises:
        InvalidInput: the file cannot be read or is no programme. Never anything else.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > MOST_LETTERS or text.count("[") + text.count("{") > MOST_BRACKETS:
            allowed = f"up to {MOST_LETTERS} characters, {MOST_BRACKETS} brackets"
            raise InvalidInput("programme file", str(path), allowed)
        data = yaml.load(text, PlainLoader)
    except InvalidInput:
        raise
    except OSError as error:
        allowed = f"a readable file ({error.strerror})"
        raise InvalidInput("programme file", str(path), allowed) from error
    except Exception as error:  # YAML's constructors raise whatever Python raises underneath
        allowed = "valid YAML in UTF-8, no key twice, no aliases"
        raise InvalidInput("programme file", str(path), allowed) from error
    programme = parse_programme(data)
    if programme.name != path.stem:
        raise InvalidInput("name", programme.name, f"{path.stem}, as the file is called")
    return programme


def load_programmes(folder: str | Path) -> dict[str, Programme]:
    """Read all programmes of a folder, by name.

    Raises:
        InvalidInput: there is none, or one is not acceptable; the message begins with its file.
    """
    found = {}
    for path in sorted(Path(folder).glob("*.yaml")):
        try:
            found[path.stem] = load_programme(path)
        except InvalidInput as error:
            raise InvalidInput(
                f"{path.name}: {error.field}", error.value, error.allowed
            ) from error
    if not found:
        raise InvalidInput("programmes", str(folder), "a folder with *.yaml files")
    return found


def checked_programmes(folder: str | Path, layout: MatLayout) -> dict[str, Programme]:
    """Read all programmes of a folder that a mat shall run, by name.

    Raises:
        InvalidInput: as `load_programmes`, or one is not possible on this mat.
    """
    found = load_programmes(folder)
    for name, programme in found.items():
        try:
            check(programme, layout)
        except InvalidInput as error:
            field = f"{name}.yaml: {error.field}"
            raise InvalidInput(field, error.value, error.allowed) from error
    return found


def programme_to_mapping(programme: Programme) -> dict[str, Any]:
    """Return what `parse_programme` takes: a mapping that is JSON."""

    def plain(record: Any) -> dict[str, Any]:
        values = {f.name: getattr(record, f.name) for f in fields(record)}
        return {
            k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if v is not None
        }

    phases = [{"kind": p.kind} | plain(p) for p in programme.phases]
    return plain(programme) | {"phases": phases}


def base_force(phase: Pressing, peak: float) -> float:
    """Force of a finger between two presses of `peak` (N), N."""
    base = min(max(RAISED * peak, PRELOAD), MOST_BASE) if phase.raised else PRELOAD
    return min(base, peak)


def time_of(phase: Phase) -> Timing:
    """How long a phase takes: all of it, and what of it is pressing."""
    if isinstance(phase, Scan):
        return Timing(FULL_TIME if phase.detail == "full" else QUICK_TIME, 0.0)
    if isinstance(phase, Rescan):
        return Timing(RESCAN_TIME, 0.0)
    if isinstance(phase, Settle):
        return Timing(phase.duration + AROUND, 0.0)
    total = phase.sets * (phase.duration + AROUND) + (phase.sets - 1) * phase.rest
    return Timing(total, phase.sets * phase.duration if phase.share > 0.0 else 0.0)


def check(programme: Programme, layout: MatLayout) -> Timing:
    """Check what can be checked without a person.

    Every phase must be possible at its full strength for one finger of every region it names, by
    `press_goal.check_goal`: limits, slew, no static hold. Sums under a region depend on the person
    and are kept by the plan.

    Args:
        programme: as loaded.
        layout: the mat.

    Returns:
        How long it takes.

    Raises:
        InvalidInput: the first thing that is not acceptable, by field.
    """
    if not isinstance(programme.phases[0], Scan):
        raise refuse("phases[0].kind", programme.phases[0].kind, "scan: nothing presses before it")
    for i, phase in enumerate(programme.phases):
        if isinstance(phase, (Mobilise, Flow, Stability)):
            _check_press(f"phases[{i}]", phase, layout)
    times = [time_of(phase) for phase in programme.phases]
    total, pressing = sum(t.total for t in times), sum(t.pressing for t in times)
    if pressing > MOST_PRESSING:
        raise refuse("phases", f"{pressing:g} s of pressing", f"at most {MOST_PRESSING:g} s")
    if total > LONGEST:
        raise refuse("phases", f"{total:g} s", f"at most {LONGEST:g} s")
    off = abs(total / 60.0 - programme.minutes)
    if off > max(OFF_TIME * programme.minutes, 0.5):
        raise refuse("minutes", programme.minutes, f"about {total / 60:.1f}, what the phases take")
    return Timing(total, pressing)


def _check_press(place: str, phase: Pressing, layout: MatLayout) -> None:
    only = ONLY_IN.get(phase.pattern)
    if only and phase.region != only:
        where = phase.region or ", ".join(phase.levels or ())
        raise refuse(f"{place}.region", where, f"{only} with the pattern {phase.pattern}")
    if phase.breathing == "gated" and phase.pattern not in AT_ONCE:
        allowed = f"{', '.join(AT_ONCE)} when gated: others never breathe out with all fingers"
        raise refuse(f"{place}.pattern", phase.pattern, allowed)
    if phase.breathing == "gated" and phase.rate > GATED_RATE:
        raise refuse(f"{place}.rate", phase.rate, f"at most {GATED_RATE:g} Hz when gated")
    if phase.breathing == "gated" and phase.region == "neck":
        raise refuse(
            f"{place}.breathing", "gated", "led or free: no breath is felt under the neck"
        )
    if isinstance(phase, (Mobilise, Flow)) and phase.breathing == "led":
        presses = 60.0 * phase.rate / phase.breaths
        if presses < 0.5 or abs(presses - round(presses)) > OFF_STEP * presses:
            allowed = f"a whole multiple of the led breath, {phase.breaths / 60.0:.3g} Hz"
            raise refuse(f"{place}.rate", phase.rate, allowed)
    regions = AREAS[phase.region] if phase.region else [region_of(v) for v in phase.levels or ()]
    for region in sorted(set(regions) & set(layout.regions)):
        peak = max(phase.share * layout.press_limits[region], PRELOAD)
        base = base_force(phase, peak)
        try:
            check_goal(
                layout,
                waveform=Waveform.RAISED_COSINE,
                fingers=[layout.regions.index(region)],
                preload=[base],
                amplitude=[peak - base],
                phase=[],
                rate=phase.rate,
                duration=phase.duration,
                approach_speed=0.005,
                expected=[],
                hold_after=False,
                start_cycle=0,
                mass=HEAVIEST,
            )
        except InvalidInput as error:
            name = f"{place}.{error.field} ({region})"
            raise InvalidInput(name, error.value, error.allowed) from error
