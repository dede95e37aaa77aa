"""Kinds of faults of the campaign: how they begin, and how they are mended after their case."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spinemat_bringup.campaign.trial import Trial
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


def spoilt(
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


def broken(name: str, words: str, causes: tuple[str, ...], *moments: str, **more: Any) -> Fault:
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


def on_its_way(fault: Fault) -> Fault:
    """The same fault, if its finger has not touched before it came: there it may stand still."""

    def begin(t: Trial) -> None:
        fault.begin(t)
        if t.truth[-1].force[INDEX] > FELT:
            raise Missed(f"the approach was over before '{fault.name}' came")

    return replace(fault, begin=begin)


def moves(name: str, kind: str, causes: tuple[str, ...], *moments: str, rule: str = "") -> Fault:
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


def killed(node: str, causes: tuple[str, ...], *moments: str, **more: Any) -> Fault:
    fault = Fault(
        f"{node} killed",
        lambda t: t.processes.kill(node),
        causes,
        moments,
        lambda t: t.restart(node),
        kills=True,
    )
    return replace(fault, **more)


def restarted(node: str, causes: tuple[str, ...], moment: str) -> Fault:
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


def frozen(node: str, causes: tuple[str, ...], *moments: str, paced: bool = False) -> Fault:
    supervisor = node == "safety_supervisor"

    def freeze(t: Trial) -> int | None:
        t.processes.freeze(node)
        # the mat is ahead of what is heard of it, by the more the busier the machine is
        return t.last_permit() if supervisor else None

    def thaw(t: Trial) -> None:
        t.processes.thaw(node)
        t.cycles(100)

    return Fault(
        f"{node} frozen",
        freeze,
        causes,
        moments,
        thaw,
        paced=paced,
        quiet=supervisor,
    )


def stop(t: Trial) -> None:
    t.client.trigger("stop")


def stop_topic(t: Trial) -> None:
    t.topic("stop").publish(t.empty)


def then_stop(*faults: str) -> Act:
    """Spoil messages first, then stop: the time counts from the stop."""

    def begin(t: Trial) -> int:
        t.tamper(*faults)
        t.cycles(5)
        cycle = t.cycle
        t.client.trigger("stop")
        return cycle

    return begin


def silent(t: Trial) -> None:
    """Somebody who could command the drive and says nothing."""
    t.topic("drive/command")


def runaway(t: Trial) -> None:
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


def forged_permits(t: Trial) -> int:
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


def second(package: str, name: str, topic: str) -> Act:
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


def end_second(name: str) -> Act:
    return lambda t: t.processes.kill(name)


def lower(**limits: object) -> Act:
    def begin(t: Trial) -> None:
        request = LowerLimits.Request(**({"mass": float("nan")} | limits))
        t.client.call(LowerLimits, "limits", request)

    return begin


def disk(node: str, full: bool) -> Act:
    """Whether no byte more can be written by a node."""

    def act(t: Trial) -> None:
        pid, kind = t.processes.pids[node], resource.RLIMIT_FSIZE
        _, hard = resource.prlimit(pid, kind)
        resource.prlimit(pid, kind, (0 if full else hard, hard))

    return act


def both(first: Act, then: Act) -> Act:
    def acts(t: Trial) -> int | None:
        first(t)
        return then(t)

    return acts


def parameters(t: Trial) -> None:
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


def hold(t: Trial) -> None:
    t.hold_hand_control(True)


def ramp(step: float, most: float, finger: int = IDLE_INDEX) -> tuple[str, ...]:
    """A load that a finger seems to carry with its motor, and to give way to a little."""
    constant = 25.0  # N/A, config/mat.yaml
    return (
        f"drive/state ramp position 0.00002 0.0008 {finger}",
        f"drive/state ramp force {step} {most} {finger}",
        f"drive/state ramp current {step / constant} {most / constant} {finger}",
    )


def light(t: Trial) -> None:
    """A person of 35 kg, and a load on every finger."""
    lower(mass=35.0)(t)
    share = {"neck": 20.0 / 4, "thoracic": 55.0 / 12, "lumbar": 35.0 / 10}
    t.tamper(
        *(
            text
            for i, region in enumerate(t.layout.regions)
            for text in ramp(0.05, share[region], i)
        )
    )


def heavy(t: Trial) -> None:
    """No load, and the limits of the file again."""
    t.tamper()
    t.end_session()
