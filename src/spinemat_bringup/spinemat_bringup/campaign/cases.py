"""What goes wrong in the fault campaign, and when; every fault is mended after its case.

A fault is data: how it begins, how it is mended, which first causes the supervisor may latch, at
which moments of a press, a scan or a session it comes. Faults of software have to release every
finger within RELEASE_LIMIT; faults of sensors and people are found by what they do, and the time
that takes is reported.
"""

from __future__ import annotations

import numpy as np

from spinemat_bringup.campaign.fault import (
    IDLE_INDEX,
    INDEX,
    Fault,
    both,
    broken,
    disk,
    end_second,
    forged_permits,
    frozen,
    heavy,
    hold,
    killed,
    light,
    lower,
    moves,
    on_its_way,
    parameters,
    ramp,
    restarted,
    runaway,
    second,
    silent,
    spoilt,
    stop,
    stop_topic,
    then_stop,
)
from spinemat_bringup.campaign.trial import MOMENTS
from spinemat_ros.codec import doubles

# what the drive stage does by itself is known to the supervisor one state later
LOST = ("drive watchdog", "drive order", "drive silent", "hand control", "heartbeat")
STATE = ("drive data", *LOST)
STOP = ("stop requested",)
ANY = tuple(MOMENTS)

FAULTS: tuple[Fault, ...] = (
    # the stop itself, at every moment
    Fault("stop service", stop, STOP, ANY, paced=True),
    Fault("stop topic", stop_topic, STOP, ("peak",), paced=True),
    # drive states on their way to those who control and supervise
    spoilt("drive/state dropped", "drive/state drop", STATE, "peak", "scan"),
    spoilt("drive/state late", "drive/state delay 50", STATE, "rising"),
    spoilt("drive/state twice", "drive/state duplicate", STATE, rule="drive order"),
    spoilt("drive/state out of order", "drive/state swap", STATE, "release"),
    spoilt("drive/state replayed", "drive/state replay 50", STATE, "peak", "contact"),
    spoilt(
        "force NaN", f"drive/state set force nan {INDEX}", STATE, "contact", "peak",
        rule="drive data",
    ),
    spoilt("position infinite", f"drive/state set position inf {INDEX}", STATE, "rising"),
    spoilt("force of one finger missing", "drive/state cut force", STATE, "peak", "rest"),
    spoilt(
        "force with wrong bits", "drive/state flip force",
        (*STATE, "finger force", "force rate", "region force", "total force", "load cell"),
    ),
    spoilt("clock 10 s ahead", "drive/state add stamp 10", STATE, "peak", "rest"),
    spoilt("clock 10 s back", "drive/state add stamp -10", STATE, "release"),
    # commands on their way to the drive
    spoilt(
        "drive/command dropped", "drive/command drop", LOST, "peak", "contact", "stopping",
        rule="drive watchdog",
    ),
    spoilt("drive/command late", "drive/command delay 50", LOST, "rising"),
    spoilt("drive/command twice", "drive/command duplicate", ("", *LOST)),
    spoilt(
        "drive/command out of order", "drive/command swap", ("", *LOST), "release", paced=True
    ),
    spoilt("drive/command replayed", "drive/command replay 50", LOST, "rising"),
    spoilt("velocity NaN", f"drive/command set velocity nan {INDEX}", LOST),
    spoilt("ceiling infinite", f"drive/command set force_ceiling inf {INDEX}", LOST, "contact"),
    spoilt("velocity of one finger missing", "drive/command cut velocity", LOST),
    spoilt(
        "velocity with wrong bits", "drive/command flip velocity",
        ("", *LOST, "following", "force rate", "finger force", "finger speed", "person left"),
    ),
    spoilt(
        "controller runs away", (
            "drive/command set velocity 0.1", "drive/command set force_ceiling 60",
        ),
        ("force rate", "finger force", "region force", "finger speed", "following",
         "total force", "person left", "load cell"),
        "contact", "peak", "scan",
    ),
    # permits on their way to the drive
    spoilt("drive/permit dropped", "drive/permit drop", LOST, "peak", "rest"),
    spoilt("drive/permit late", "drive/permit delay 50", LOST, "rising"),
    spoilt("drive/permit twice", "drive/permit duplicate", ("", *LOST)),
    spoilt(
        "drive/permit out of order", "drive/permit swap", ("", *LOST), "release", paced=True
    ),
    spoilt("drive/permit replayed", "drive/permit replay 50", LOST),
    spoilt("permit with a category that is none", "drive/permit set category 99", LOST),
    spoilt(
        "permit of another supervisor", "drive/permit set boot_id other", LOST, "peak",
    ),
    # the control in the person's hand
    spoilt(
        "hand_control dropped", "hand_control drop", ("hand control",), "peak", "scan",
        rule="hand control",
    ),
    spoilt("hand_control twice", "hand_control duplicate", ("", "hand control")),
    spoilt("hand_control replayed", "hand_control replay 10", ("hand control",)),
    spoilt("hand_control from the future", "hand_control add stamp 10", ("hand control",)),
    spoilt("hand_control says released", "hand_control set held false", ("hand control",)),
    Fault(
        "the person lets go", lambda t: t.hold_hand_control(False),
        ("hand control", "drive watchdog"), ("scan", "contact", "peak", "paused"), hold,
    ),
    # what nodes tell each other
    spoilt(
        "heartbeat dropped", "heartbeat drop", ("heartbeat",), "peak", rule="heartbeat", paced=True
    ),
    spoilt(
        "heartbeat from the future", "heartbeat add stamp 10", ("heartbeat",), "peak", paced=True
    ),
    spoilt("heartbeat replayed", "heartbeat replay 30", ("heartbeat",), "peak", paced=True),
    spoilt("a node complains", "heartbeat set healthy false", ("heartbeat",), "peak"),
    spoilt(
        "a node has another mat", "heartbeat set mat other", ("configuration",), "peak", "rest",
        rule="configuration",
    ),
    spoilt(
        "fingers/state dropped", "fingers/state drop", ("heartbeat",), "peak", paced=True
    ),
    spoilt(
        "a finger said to be excluded", f"fingers/state set mode 4 {INDEX}",
        ("excluded finger",), "peak", rule="excluded finger",
    ),
    spoilt("safety/state dropped, then a stop", (), STOP, begin=then_stop("safety/state drop"),
            quiet=True),
    spoilt("session/state dropped", "session/state drop", ("",), "treat"),
    spoilt("breathing dropped", "breathing drop", ("",), "peak"),
    # processes
    killed("finger_actuation", LOST, "peak", "scan"),
    frozen("finger_actuation", LOST, "contact", "peak", "stopping"),
    killed("safety_supervisor", ("restart",), "peak", "stopping", quiet=True),
    frozen("safety_supervisor", LOST, "rising", "peak"),
    killed("spine_contour", ("heartbeat",), "scan", paced=True),
    frozen("spine_contour", ("heartbeat",), "peak", paced=True),
    killed("session_orchestrator", ("heartbeat",), "treat", paced=True),
    frozen("session_orchestrator", ("heartbeat",), "rising", paced=True),
    killed("recorder", ("",), "treat"),
    frozen("recorder", ("",), "peak"),
    restarted("finger_actuation", LOST, "treat"),
    restarted("safety_supervisor", ("restart",), "treat"),
    restarted("spine_contour", ("heartbeat",), "treat"),
    restarted("session_orchestrator", ("heartbeat",), "treat"),
    # more than one of each
    Fault(
        "a second controller runs away", runaway, ("publishers",), ("peak", "contact"),
        lambda t: t.hear(None),
    ),
    Fault(
        "a second publisher of commands", silent,
        ("publishers",), ("rest", "rising"), rule="publishers",
    ),
    Fault(
        "forged permits, then a stop", forged_permits, (*STOP, "publishers"),
        ("peak", "stopping"), lambda t: t.hear(None),
    ),
    Fault(
        "a second supervisor", second("spinemat_safety", "other_supervisor", "drive/permit"),
        ("publishers", "drive watchdog"), ("peak",), end_second("other_supervisor"), kills=True,
    ),
    # sensors and drives of one finger
    broken("load cell stuck", "load_cell_stuck", ("load cell", "", "force rate"), "rising"),
    broken("load cell 8 N too high", "load_cell_offset 8.0", ("load cell",), "peak", "contact"),
    broken("load cell 8 N too low", "load_cell_offset -8.0", ("load cell",), "peak"),
    broken("load cell drifts", "load_cell_drift 4.0", ("load cell", "force rate"), "peak"),
    broken("load cell saturated", "load_cell_saturated 3.0", ("load cell", ""), "rising"),
    broken("load cell off at rest", "load_cell_offset 6.0", ("load cell",), "rest",
            rule="load cell"),
    broken("encoder jumps", "encoder_offset 0.005", ("encoder",), "peak", "scan"),
    broken("encoder jumps at rest", "encoder_offset 0.005", ("encoder",), "rest", rule="encoder"),
    broken("encoder stands still", "encoder_stuck", ("encoder", "following", ""), "contact"),
    on_its_way(
        broken("finger jammed", "jammed 60.0", ("following",), "approach", rule="following")
    ),
    broken("finger jammed under load", "jammed 60.0", ("following", "load cell", ""), "peak"),
    broken("motor dead", "dead_motor", ("following", ""), "approach"),
    broken("winding hot", "hot 90.0", ("temperature",), "peak", "contact", rule="temperature"),
    # people
    moves("the person sits up", "sits up", ("person left", "", "left-right"), "peak", "scan"),
    moves("the person leaves", "leaves", ("person left",), "peak", rule="person left"),
    moves("the person rolls", "rolls", ("left-right",), "peak", rule="left-right"),
    spoilt(
        "the person guards", "guarding set active true", ("guarding",), "peak", "scan",
        software=False, rule="guarding",
    ),
    # the machine
    Fault(
        "disk full, then a stop", both(disk("safety_supervisor", True), stop), STOP, ("peak",),
        disk("safety_supervisor", False), paced=True,
    ),
    Fault(
        "disk full while recording", disk("recorder", True), ("",), ("treat",),
        disk("recorder", False),
    ),
    Fault("parameters changed under way", parameters, ("",), ("peak",)),
    Fault(
        "two judgements take 0.2 s", lambda t: t.set("safety_supervisor", "busy", 0.2),
        ("overrun",), ("peak",), rule="overrun", graph="campaign",
    ),
    # the rest of the rules, with drive data that say so
    Fault(
        "limit of the fingers lowered", lower(force=doubles(np.full(26, 6.0))),
        ("finger force",), ("peak",), lambda t: t.end_session(), rule="finger force",
    ),
    Fault(
        "limit of the regions lowered", lower(mass=35.0), ("region force", "total force"),
        ("rising",), lambda t: t.end_session(), rule="region force",
    ),
    spoilt(
        "load on every finger",
        tuple(f"drive/state ramp force 0.1 {3.8 if i < 22 else 3.9} {i}" for i in range(26)),
        ("total force",), "rest", rule="total force", software=False,
        begin=light, mend=heavy,
    ),
    spoilt("impact on a finger", f"drive/state add force 12 {IDLE_INDEX}", ("force rate",),
            "rest", rule="force rate"),
    spoilt("load of 39 N on a finger", ramp(0.5, 39.0), ("pressure",), "rest", rule="pressure"),
    spoilt("load that stays", ramp(0.2, 11.0), ("dwell",), "rest", rule="dwell", patience=8.0),
    spoilt("encoder runs away", f"drive/state ramp position 0.001 0.1 {IDLE_INDEX}",
            ("stroke",), "rest", rule="stroke"),
    spoilt("finger too fast", f"drive/state set velocity 0.5 {IDLE_INDEX}", ("finger speed",),
            "rest", rule="finger speed"),
    spoilt("current too high", f"drive/state set current 3 {IDLE_INDEX}", ("current",), "rest",
            rule="current"),
    spoilt("drive reports a fault", f"drive/state set status 2 {IDLE_INDEX}", ("drive fault",),
            "rest", rule="drive fault"),
    spoilt("session too long", "session/state set phase 5", ("session time",), "rest",
            rule="session time", graph="short", patience=20.0, software=False),
    spoilt("pressing too long", "session/state set phase 5", ("pressing time",), "rising",
            rule="pressing time", graph="short", patience=12.0, software=False),
)  # fmt: skip
