"""What is felt all the time, as messages; the watches themselves are in `spinemat.watches`."""

from __future__ import annotations

import numpy as np
from rclpy.node import Node

from spinemat.layout import MatLayout
from spinemat.reactions import Reaction
from spinemat.running import METHOD, Running
from spinemat.watches import Felt, FingerSample, Watches
from spinemat_interfaces import msg
from spinemat_ros.codec import doubles, floats, nanoseconds
from spinemat_ros.node import Voice, header, publisher
from spinemat_sensing.messages import breathing_message


class Watching:
    """Feeds every state of the fingers to the watches and publishes what they say."""

    def __init__(self, node: Node, layout: MatLayout, voice: Voice) -> None:
        self._node, self._layout, self._voice = node, layout, voice
        self.watches = Watches(layout)
        self._breaths = publisher(node, "breathing")
        self._loads = publisher(node, "pressure")
        self._guards = publisher(node, "guarding")
        self._presences = publisher(node, "presence")
        self._stiffness = publisher(node, "stiffness/running")

    def add(self, state: msg.FingerState) -> Reaction:
        """Take a state whose arrays have been checked; return what the person does."""
        now = nanoseconds(state.header.stamp)
        felt = self.watches.add(
            FingerSample(
                cycle=state.cycle,
                now=now,
                position=floats(state.position),
                force=floats(state.force),
                set_point=floats(state.set_point),
                mode=np.array(state.mode, dtype=np.int64),
                contact=np.array(state.contact, dtype=bool),
            )
        )
        said = felt.reaction
        if felt.tell_guarding:
            self._tell_guarding(now, said)
        if felt.tell_presence:
            self._tell_presence(now, said)
        if felt.tense:
            self._voice.say("guarding", f"muscles tense: {said.reason}")
        if felt.moves:
            self._voice.say("moved", said.reason, severity=msg.Event.WARNING)
        if felt.slow:
            self._tell_load(now, felt.load)
            self._tell_breath(now, felt)
        if felt.running is not None:
            self._tell_stiffness(now, felt.running)
        return said

    def _tell_guarding(self, now: int, said: Reaction) -> None:
        self._guards.publish(
            msg.Guarding(
                header=header(self._node, now),
                active=said.guarding,
                stiffening=doubles(said.stiffening),
                confidence=said.confidence,
                reason=said.reason if said.guarding else "",
            )
        )

    def _tell_presence(self, now: int, said: Reaction) -> None:
        self._presences.publish(
            msg.Presence(
                header=header(self._node, now),
                presence=int(said.presence),
                touching=said.touching,
                moving=said.moving,
                reason=said.reason if said.moving else "",
            )
        )

    def _tell_load(self, now: int, load: np.ndarray) -> None:
        self._loads.publish(
            msg.Pressure(
                header=header(self._node, now),
                x=doubles(self._layout.row_x),
                fingers=doubles(load),
            )
        )

    def _tell_breath(self, now: int, felt: Felt) -> None:
        self._breaths.publish(breathing_message(header(self._node, now), felt))

    def _tell_stiffness(self, now: int, found: Running) -> None:
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
