"""What goes wrong in the fault campaign, and when; every fault is mended after its case.

A fault is data: how it begins, how it is mended, which first causes the supervisor may latch, at
which moments of a press, a scan or a session it comes. Faults of software have to release every
finger within RELEASE_LIMIT; faults of sensors and people are found by what they do, and the time
that takes is reported.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spinemat_bringup.campaign.trial import MOMENTS, Trial
from spinemat_bringup.graph import NodeSpec
from spinemat_bringup.rig import FELT, Missed
from spinemat_interfaces.msg import DriveCommand, DrivePermit, PlantTruth
from spinemat_interfaces.srv import LowerLimits
from spinemat_ros.codec import doubles

RELEASE_LIMIT = 0.4  # s, from the fault of a software to all fingers under 1 N
FINGER = "r07_left"  # whose sensors lie; it takes part in the press
INDEX = 12
IDLE_INDEX = 0  # a finger that lies down all the time

Act = Callable[[Trial], int | None]


def _nothing(_trial: Trial) -> None:
    return


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        name: for people, and for `--only`.
        begin: lets it go wrong; returns the drive cycle at which that was, or None for "now".
        causes: first causes that may latch; "" among them: the mat may also go on.
        moments: when it comes; see MOMENTS.
        mend: what is mended before the reset.
        software: whether the release has to keep RELEASE_LIMIT.
        rule: the rule of which this is the own case.
        paced: in real time, not in lock-step: what comes from outside the loop, a stop that
            somebody asks for or a heartbeat, is judged by the clock.
        patience: s of drive time until the stop has to have come.
        graph: which supervisor it needs; see `GRAPHS` in `run.py`.
        kills: it ends processes; the graph after it is a new one.
        quiet: nobody can tell of the stop until it is mended.
    """

    name: str
    begin: Act
    causes: tuple[str, ...]
    moments: tuple[str, ...]
    mend: Act = _nothing
    software: bool = True
    rule: str = ""
    paced: bool = False
    patience: float = 4.0
    graph: str = "mat"
    kills: bool = False
    quiet: bool = False


# what the drive stage does by itself is known to the supervisor one state later
LOST = ("drive watchdog", "drive order", "drive silent", "hand control", "heartbeat")
STATE = ("drive data", *LOST)


def _spoilt(
    name: str,
    faults: str | tuple[str, ...],
    causes: tuple[str, ...],
    *moments: str,
    **more: Any,
) -> Fault:
    """Messages that are tampered with."""
    texts = (faults,) if isinstance(faults, str) else faults
    fault = Fault(
        name,
        lambda t: t.tamper(*texts),
        causes,
        moments or ("peak",),
        lambda t: t.tamper(),
    )
    return replace(fault, **more)


def _broken(name: str, words: str, causes: tuple[str, ...], *moments: str, **more: Any) -> Fault:
    """A finger whose sensors or drive fail."""
    fault = Fault(
        name,
        lambda t: t.set("mat_simulator", "finger_faults", [f"{FINGER} {words}"]),
        causes,
        moments,
        lambda t: t.set("mat_simulator", "finger_faults", [""]),
        software=False,
        patience=6.0,
    )
    return replace(fault, **more)


def _on_its_way(fault: Fault) -> Fault:
    """The same fault, if its finger has not touched before it came: there it may stand still."""

    def begin(t: Trial) -> None:
        fault.begin(t)
        if t.truth[-1].force[INDEX] > FELT:
            raise Missed(f"the approach was over before '{fault.name}' came")

    return replace(fault, begin=begin)


def _moves(name: str, kind: str, causes: tuple[str, ...], *moments: str, rule: str = "") -> Fault:
    """A person who moves."""

    def back(t: Trial) -> None:
        t.set("mat_simulator", "person_moves", "lies still")
        t.cycles(300)

    return Fault(
        name,
        lambda t: t.set("mat_simulator", "person_moves", kind),
        causes,
        moments,
        back,
        software=False,
        rule=rule,
        patience=8.0,
    )


def _killed(node: str, causes: tuple[str, ...], *moments: str, **more: Any) -> Fault:
    fault = Fault(
        f"{node} killed",
        lambda t: t.processes.kill(node),
        causes,
        moments,
        lambda t: t.restart(node),
        kills=True,
    )
    return replace(fault, **more)


def _restarted(node: str, causes: tuple[str, ...], moment: str) -> Fault:
    def again(t: Trial) -> None:
        t.processes.kill(node)
        t.processes.restart(node)

    return Fault(
        f"{node} restarted",
        again,
        causes,
        (moment,),
        lambda t: t.client.bring_up([spec for spec in t.nodes if spec.name == node]),
        kills=True,
        paced=True,
        quiet=node == "safety_supervisor",
    )


def _frozen(node: str, causes: tuple[str, ...], *moments: str, paced: bool = False) -> Fault:
    def thaw(t: Trial) -> None:
        t.processes.thaw(node)
        t.cycles(100)

    return Fault(
        f"{node} frozen",
        lambda t: t.processes.freeze(node),
        causes,
        moments,
        thaw,
        paced=paced,
        quiet=node == "safety_supervisor",
    )


def _stop(t: Trial) -> None:
    t.client.trigger("stop")


def _stop_topic(t: Trial) -> None:
    t.topic("stop").publish(t.empty)


def _then_stop(*faults: str) -> Act:
    """Spoil messages first, then stop: the time counts from the stop."""

    def begin(t: Trial) -> int:
        t.tamper(*faults)
        t.cycles(5)
        cycle = t.cycle
        t.client.trigger("stop")
        return cycle

    return begin


def _silent(t: Trial) -> None:
    """Somebody who could command the drive and says nothing."""
    t.topic("drive/command")


def _runaway(t: Trial) -> None:
    """A second controller that drives every finger up as hard as it can."""
    commands, n = t.topic("drive/command"), t.layout.n

    def push(truth: PlantTruth) -> None:
        commands.publish(
            DriveCommand(
                header=truth.header,
                cycle=truth.cycle + 1,
                velocity=doubles(np.full(n, t.layout.finger.max_speed)),
                force_ceiling=doubles(np.full(n, t.layout.finger.max_force)),
            )
        )

    t.hear(push)


def _forged_permits(t: Trial) -> int:
    """Somebody permits everything in the supervisor's name, and then the mat is to stop."""
    permits, boot = t.topic("drive/permit"), t.boot_id()

    def permit(truth: PlantTruth) -> None:
        permits.publish(
            DrivePermit(
                header=truth.header, cycle=truth.cycle + 1, sequence=1, boot_id=boot, granted=True
            )
        )

    t.hear(permit)
    cycle = t.cycle
    t.client.trigger("stop")
    return cycle


def _second(package: str, name: str, topic: str) -> Act:
    """Start one more process that publishes `topic`; the time counts from when it is seen."""

    def begin(t: Trial) -> int:
        spec = next(spec for spec in t.nodes if spec.package == package)
        own = {key: value for key, value in spec.parameters.items() if key != "state_dir"}
        before, seen = t.client.count_publishers(topic), list[int]()

        def look(truth: PlantTruth) -> None:
            if not seen and t.client.count_publishers(topic) > before:
                seen.append(truth.cycle)

        t.hear(look)
        t.processes.add(NodeSpec(name, package, spec.executable, False, own))
        t.client.wait(lambda: bool(seen), 30.0, name)
        t.hear(None)
        return seen[0]

    return begin


def _end_second(name: str) -> Act:
    return lambda t: t.processes.kill(name)


def _lower(**limits: object) -> Act:
    def begin(t: Trial) -> None:
        request = LowerLimits.Request(**({"mass": float("nan")} | limits))
        t.client.call(LowerLimits, "limits", request)

    return begin


def _disk(node: str, full: bool) -> Act:
    """Whether no byte more can be written by a node."""

    def act(t: Trial) -> None:
        pid, kind = t.processes.pids[node], resource.RLIMIT_FSIZE
        _, hard = resource.prlimit(pid, kind)
        resource.prlimit(pid, kind, (0 if full else hard, hard))

    return act


def _both(first: Act, then: Act) -> Act:
    def acts(t: Trial) -> int | None:
        first(t)
        return then(t)

    return acts


def _parameters(t: Trial) -> None:
    """Nobody changes limits, gains or the mat while fingers move."""
    for node, name, value in (
        ("safety_supervisor", "max_session_time", 3600.0),
        ("safety_supervisor", "mat_config", "/other.yaml"),
        ("finger_actuation", "mat_config", "/other.yaml"),
        ("finger_actuation", "gains.integral", 0.01),  # in range, and refused all the same
        ("finger_actuation", "gains.set_point_share", 0.9),
        ("session_orchestrator", "programmes", "/other.yaml"),
    ):
        taken, _ = t.client.set_parameter(node, name, value)
        if taken:
            t.odd.append(f"{node} took {name} = {value} while fingers moved")


def _hold(t: Trial) -> None:
    t.hold_hand_control(True)


def _ramp(step: float, most: float, finger: int = IDLE_INDEX) -> tuple[str, ...]:
    """A load that a finger seems to carry with its motor, and to give way to a little."""
    constant = 25.0  # N/A, config/mat.yaml
    return (
        f"drive/state ramp position 0.00002 0.0008 {finger}",
        f"drive/state ramp force {step} {most} {finger}",
        f"drive/state ramp current {step / constant} {most / constant} {finger}",
    )


STOP = ("stop requested",)
ANY = tuple(MOMENTS)

FAULTS: tuple[Fault, ...] = (
    # the stop itself, at every moment
    Fault("stop service", _stop, STOP, ANY, paced=True),
    Fault("stop topic", _stop_topic, STOP, ("peak",), paced=True),
    # drive states on their way to those who control and supervise
    _spoilt("drive/state dropped", "drive/state drop", STATE, "peak", "scan"),
    _spoilt("drive/state late", "drive/state delay 50", STATE, "rising"),
    _spoilt("drive/state twice", "drive/state duplicate", STATE, rule="drive order"),
    _spoilt("drive/state out of order", "drive/state swap", STATE, "release"),
    _spoilt("drive/state replayed", "drive/state replay 50", STATE, "peak", "contact"),
    _spoilt(
        "force NaN", f"drive/state set force nan {INDEX}", STATE, "contact", "peak",
        rule="drive data",
    ),
    _spoilt("position infinite", f"drive/state set position inf {INDEX}", STATE, "rising"),
    _spoilt("force of one finger missing", "drive/state cut force", STATE, "peak", "rest"),
    _spoilt(
        "force with wrong bits", "drive/state flip force",
        (*STATE, "finger force", "force rate", "region force", "total force", "load cell"),
    ),
    _spoilt("clock 10 s ahead", "drive/state add stamp 10", STATE, "peak", "rest"),
    _spoilt("clock 10 s back", "drive/state add stamp -10", STATE, "release"),
    # commands on their way to the drive
    _spoilt(
        "drive/command dropped", "drive/command drop", LOST, "peak", "contact", "stopping",
        rule="drive watchdog",
    ),
    _spoilt("drive/command late", "drive/command delay 50", LOST, "rising"),
    _spoilt("drive/command twice", "drive/command duplicate", ("", *LOST)),
    _spoilt(
        "drive/command out of order", "drive/command swap", ("", *LOST), "release", paced=True
    ),
    _spoilt("drive/command replayed", "drive/command replay 50", LOST, "rising"),
    _spoilt("velocity NaN", f"drive/command set velocity nan {INDEX}", LOST),
    _spoilt("ceiling infinite", f"drive/command set force_ceiling inf {INDEX}", LOST, "contact"),
    _spoilt("velocity of one finger missing", "drive/command cut velocity", LOST),
    _spoilt(
        "velocity with wrong bits", "drive/command flip velocity",
        ("", *LOST, "following", "force rate", "finger force", "finger speed", "person left"),
    ),
    _spoilt(
        "controller runs away", (
            "drive/command set velocity 0.1", "drive/command set force_ceiling 60",
        ),
        ("force rate", "finger force", "region force", "finger speed", "following",
         "total force", "person left", "load cell"),
        "contact", "peak", "scan",
    ),
    # permits on their way to the drive
    _spoilt("drive/permit dropped", "drive/permit drop", LOST, "peak", "rest"),
    _spoilt("drive/permit late", "drive/permit delay 50", LOST, "rising"),
    _spoilt("drive/permit twice", "drive/permit duplicate", ("", *LOST)),
    _spoilt(
        "drive/permit out of order", "drive/permit swap", ("", *LOST), "release", paced=True
    ),
    _spoilt("drive/permit replayed", "drive/permit replay 50", LOST),
    _spoilt("permit with a category that is none", "drive/permit set category 99", LOST),
    _spoilt(
        "permit of another supervisor", "drive/permit set boot_id other", LOST, "peak",
    ),
    # the control in the person's hand
    _spoilt(
        "hand_control dropped", "hand_control drop", ("hand control",), "peak", "scan",
        rule="hand control",
    ),
    _spoilt("hand_control twice", "hand_control duplicate", ("", "hand control")),
    _spoilt("hand_control replayed", "hand_control replay 10", ("hand control",)),
    _spoilt("hand_control from the future", "hand_control add stamp 10", ("hand control",)),
    _spoilt("hand_control says released", "hand_control set held false", ("hand control",)),
    Fault(
        "the person lets go", lambda t: t.hold_hand_control(False),
        ("hand control", "drive watchdog"), ("scan", "contact", "peak", "paused"), _hold,
    ),
    # what nodes tell each other
    _spoilt(
        "heartbeat dropped", "heartbeat drop", ("heartbeat",), "peak", rule="heartbeat", paced=True
    ),
    _spoilt(
        "heartbeat from the future", "heartbeat add stamp 10", ("heartbeat",), "peak", paced=True
    ),
    _spoilt("heartbeat replayed", "heartbeat replay 30", ("heartbeat",), "peak", paced=True),
    _spoilt("a node complains", "heartbeat set healthy false", ("heartbeat",), "peak"),
    _spoilt(
        "a node has another mat", "heartbeat set mat other", ("configuration",), "peak", "rest",
        rule="configuration",
    ),
    _spoilt(
        "fingers/state dropped", "fingers/state drop", ("heartbeat",), "peak", paced=True
    ),
    _spoilt(
        "a finger said to be excluded", f"fingers/state set mode 4 {INDEX}",
        ("excluded finger",), "peak", rule="excluded finger",
    ),
    _spoilt("safety/state dropped, then a stop", (), STOP, begin=_then_stop("safety/state drop"),
            quiet=True),
    _spoilt("session/state dropped", "session/state drop", ("",), "treat"),
    _spoilt("breathing dropped", "breathing drop", ("",), "peak"),
    # processes
    _killed("finger_actuation", LOST, "peak", "scan"),
    _frozen("finger_actuation", LOST, "contact", "peak", "stopping"),
    _killed("safety_supervisor", ("restart",), "peak", "stopping", quiet=True),
    _frozen("safety_supervisor", LOST, "rising", "peak"),
    _killed("spine_contour", ("heartbeat",), "scan", paced=True),
    _frozen("spine_contour", ("heartbeat",), "peak", paced=True),
    _killed("session_orchestrator", ("heartbeat",), "treat", paced=True),
    _frozen("session_orchestrator", ("heartbeat",), "rising", paced=True),
    _killed("recorder", ("",), "treat"),
    _frozen("recorder", ("",), "peak"),
    _restarted("finger_actuation", LOST, "treat"),
    _restarted("safety_supervisor", ("restart",), "treat"),
    _restarted("spine_contour", ("heartbeat",), "treat"),
    _restarted("session_orchestrator", ("heartbeat",), "treat"),
    # more than one of each
    Fault(
        "a second controller runs away", _runaway, ("publishers",), ("peak", "contact"),
        lambda t: t.hear(None),
    ),
    Fault(
        "a second publisher of commands", _silent,
        ("publishers",), ("rest", "rising"), rule="publishers",
    ),
    Fault(
        "forged permits, then a stop", _forged_permits, (*STOP, "publishers"),
        ("peak", "stopping"), lambda t: t.hear(None),
    ),
    Fault(
        "a second supervisor", _second("spinemat_safety", "other_supervisor", "drive/permit"),
        ("publishers", "drive watchdog"), ("peak",), _end_second("other_supervisor"), kills=True,
    ),
    # sensors and drives of one finger
    _broken("load cell stuck", "load_cell_stuck", ("load cell", "", "force rate"), "rising"),
    _broken("load cell 8 N too high", "load_cell_offset 8.0", ("load cell",), "peak", "contact"),
    _broken("load cell 8 N too low", "load_cell_offset -8.0", ("load cell",), "peak"),
    _broken("load cell drifts", "load_cell_drift 4.0", ("load cell", "force rate"), "peak"),
    _broken("load cell saturated", "load_cell_saturated 3.0", ("load cell", ""), "rising"),
    _broken("load cell off at rest", "load_cell_offset 6.0", ("load cell",), "rest",
            rule="load cell"),
    _broken("encoder jumps", "encoder_offset 0.005", ("encoder",), "peak", "scan"),
    _broken("encoder jumps at rest", "encoder_offset 0.005", ("encoder",), "rest", rule="encoder"),
    _broken("encoder stands still", "encoder_stuck", ("encoder", "following", ""), "contact"),
    _on_its_way(
        _broken("finger jammed", "jammed 60.0", ("following",), "approach", rule="following")
    ),
    _broken("finger jammed under load", "jammed 60.0", ("following", "load cell", ""), "peak"),
    _broken("motor dead", "dead_motor", ("following", ""), "approach"),
    _broken("winding hot", "hot 90.0", ("temperature",), "peak", "contact", rule="temperature"),
    # people
    _moves("the person sits up", "sits up", ("person left", "", "left-right"), "peak", "scan"),
    _moves("the person leaves", "leaves", ("person left",), "peak", rule="person left"),
    _moves("the person rolls", "rolls", ("left-right",), "peak", rule="left-right"),
    _spoilt(
        "the person guards", "guarding set active true", ("guarding",), "peak", "scan",
        software=False, rule="guarding",
    ),
    # the machine
    Fault(
        "disk full, then a stop", _both(_disk("safety_supervisor", True), _stop), STOP, ("peak",),
        _disk("safety_supervisor", False), paced=True,
    ),
    Fault(
        "disk full while recording", _disk("recorder", True), ("",), ("treat",),
        _disk("recorder", False),
    ),
    Fault("parameters changed under way", _parameters, ("",), ("peak",)),
    Fault(
        "two judgements take 0.2 s", lambda t: t.set("safety_supervisor", "busy", 0.2),
        ("overrun",), ("peak",), rule="overrun", graph="campaign",
    ),
    # the rest of the rules, with drive data that say so
    Fault(
        "limit of the fingers lowered", _lower(force=doubles(np.full(26, 6.0))),
        ("finger force",), ("peak",), lambda t: t.end_session(), rule="finger force",
    ),
    Fault(
        "limit of the regions lowered", _lower(mass=35.0), ("region force", "total force"),
        ("rising",), lambda t: t.end_session(), rule="region force",
    ),
    _spoilt(
        "load on every finger",
        tuple(f"drive/state ramp force 0.1 {3.8 if i < 22 else 3.9} {i}" for i in range(26)),
        ("total force",), "rest", rule="total force", software=False,
        begin=lambda t: _light(t), mend=lambda t: _heavy(t),
    ),
    _spoilt("impact on a finger", f"drive/state add force 12 {IDLE_INDEX}", ("force rate",),
            "rest", rule="force rate"),
    _spoilt("load of 39 N on a finger", _ramp(0.5, 39.0), ("pressure",), "rest", rule="pressure"),
    _spoilt("load that stays", _ramp(0.2, 11.0), ("dwell",), "rest", rule="dwell", patience=8.0),
    _spoilt("encoder runs away", f"drive/state ramp position 0.001 0.1 {IDLE_INDEX}",
            ("stroke",), "rest", rule="stroke"),
    _spoilt("finger too fast", f"drive/state set velocity 0.5 {IDLE_INDEX}", ("finger speed",),
            "rest", rule="finger speed"),
    _spoilt("current too high", f"drive/state set current 3 {IDLE_INDEX}", ("current",), "rest",
            rule="current"),
    _spoilt("drive reports a fault", f"drive/state set status 2 {IDLE_INDEX}", ("drive fault",),
            "rest", rule="drive fault"),
    _spoilt("session too long", "session/state set phase 5", ("session time",), "rest",
            rule="session time", graph="short", patience=20.0, software=False),
    _spoilt("pressing too long", "session/state set phase 5", ("pressing time",), "rising",
            rule="pressing time", graph="short", patience=12.0, software=False),
)  # fmt: skip


def _light(t: Trial) -> None:
    _lower(mass=35.0)(t)
    share = {"neck": 20.0 / 4, "thoracic": 55.0 / 12, "lumbar": 35.0 / 10}
    t.tamper(
        *(
            text
            for i, region in enumerate(t.layout.regions)
            for text in _ramp(0.05, share[region], i)
        )
    )


def _heavy(t: Trial) -> None:
    t.tamper()
    t.end_session()
