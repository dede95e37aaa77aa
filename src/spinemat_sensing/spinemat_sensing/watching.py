"""What is felt all the time: load, breathing, guarding, presence, running stiffness."""

from __future__ import annotations

import numpy as np
from rclpy.node import Node

from spinemat.breathing import BreathWatch
from spinemat.control import Mode
from spinemat.layout import MatLayout
from spinemat.reactions import HELD, Reaction, ReactionWatch
from spinemat.running import METHOD, RunningStiffness
from spinemat_interfaces import msg
from spinemat_ros.codec import doubles, floats, nanoseconds, stamp
from spinemat_ros.node import Voice, header, publisher

STATE_CYCLES = 5  # drive cycles between states of the fingers
SLOW, RUNNING = 5, 50  # states between what is told at 10 Hz, and at 1 Hz


class Watching:
    """Feeds every state of the fingers to the watches and publishes what they say."""

    def __init__(self, node: Node, layout: MatLayout, voice: Voice) -> None:
        self._node, self._layout, self._voice = node, layout, voice
        self._breath = BreathWatch(layout.regions)
        self._reactions = ReactionWatch(layout, STATE_CYCLES * layout.cycle)
        self._running = RunningStiffness(layout, STATE_CYCLES * layout.cycle)
        self._count = 0
        self._said: Reaction = self._reactions.now
        self._breaths = publisher(node, "breathing")
        self._loads = publisher(node, "pressure")
        self._guards = publisher(node, "guarding")
        self._presences = publisher(node, "presence")
        self._stiffness = publisher(node, "stiffness/running")

    def learn(self, linear: np.ndarray, toe: np.ndarray, corner: np.ndarray) -> None:
        """Take over what a scan found under each finger; see `ReactionWatch.learn`."""
        self._reactions.learn(linear, toe, corner)

    def add(self, state: msg.FingerState) -> None:
        """Take a state whose arrays have been checked."""
        now = nanoseconds(state.header.stamp)
        position, force = floats(state.position), floats(state.force)
        driven = np.array(state.mode) == Mode.FORCE
        touching = np.array(state.contact, dtype=bool) & driven
        self._count += 1
        self._breath.add(1e-9 * now, position, force, touching)
        self._running.add(position, force, touching)
        held = driven & (floats(state.set_point) >= HELD)
        said = self._reactions.add(1e-9 * now, position, force, held, touching)
        before, self._said = self._said, said
        slow = self._count % SLOW == 0
        if slow or said.guarding != before.guarding:
            self._tell_guarding(now)
        if slow or (said.moving, said.presence) != (before.moving, before.presence):
            self._tell_presence(now)
        if said.guarding and not before.guarding:
            self._voice.say("guarding", f"muscles tense: {said.reason}")
        if said.moving and not before.moving:
            severity = msg.Event.WARNING
            self._voice.say("moved", said.reason, severity=severity)
        if slow:
            self._tell_load(now, force)
            self._tell_breath(now)
        if self._count % RUNNING == 0:
            self._tell_stiffness(now)

    def _tell_guarding(self, now: int) -> None:
        said = self._said
        self._guards.publish(
            msg.Guarding(
                header=header(self._node, now),
                active=said.guarding,
                stiffening=doubles(said.stiffening),
                confidence=said.confidence,
                reason=said.reason if said.guarding else "",
            )
        )

    def _tell_presence(self, now: int) -> None:
        said = self._said
        self._presences.publish(
            msg.Presence(
                header=header(self._node, now),
                presence=int(said.presence),
                touching=said.touching,
                moving=said.moving,
                reason=said.reason if said.moving else "",
            )
        )

    def _tell_load(self, now: int, force: np.ndarray) -> None:
        pairs = force.reshape(-1, 2).sum(axis=1)
        self._loads.publish(
            msg.Pressure(
                header=header(self._node, now),
                x=doubles(self._layout.row_x),
                fingers=doubles(np.maximum(pairs, 0.0)),
            )
        )

    def _tell_breath(self, now: int) -> None:
        head = header(self._node, now)
        e = self._breath.at(1e-9 * now)
        if e is None:
            self._breaths.publish(msg.Breathing(header=head, rate=np.nan, phase=np.nan))
            return
        left = (2.0 * np.pi - e.phase) / (2.0 * np.pi * e.rate)
        self._breaths.publish(
            msg.Breathing(
                header=head,
                rate=e.rate,
                phase=e.phase,
                amplitude=e.amplitude,
                next_end_expiration=stamp(now + round(1e9 * left)),
                quality=max(e.quality, 0.0),
                valid=e.valid,
            )
        )

    def _tell_stiffness(self, now: int) -> None:
        found = self._running.now()
        if not np.isfinite(found.value).any():
            return
        self._stiffness.publish(
            msg.RunningStiffness(
                header=header(self._node, now),
                value=doubles(found.value),
                standard_error=doubles(found.error),
                change=doubles(found.change),
                change_error=doubles(found.change_error),
                method=METHOD,
            )
        )
