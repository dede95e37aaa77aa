"""The mat of the fault campaign: every message can be tampered with, at any moment of use."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from rclpy.publisher import Publisher
from std_msgs.msg import Empty
from std_srvs.srv import SetBool

from spinemat_bringup.client import MatClient, Sent
from spinemat_bringup.graph import NodeSpec
from spinemat_bringup.processes import Processes
from spinemat_bringup.rig import DOWN, FELT, WALL_LIMIT, Rig
from spinemat_interfaces.action import RunSession, ScanSpine
from spinemat_interfaces.msg import DrivePermit, PlantTruth, SessionState
from spinemat_sim.patient import Patient

RISEN = 0.003  # m that a tip has moved in the approach
LOADED = 2.0  # N, true force on any finger in a scan
TREATED = 4.0  # N, the same in a treatment
SILENT = 25  # cycles without a permit: it has fallen silent


class Trial(Rig):
    """A mat, a press, a scan or a session on it, and what goes wrong with it.

    Attributes:
        odd: what was not as it should be, for people; a case with any has failed.
    """

    empty = Empty()

    def __init__(
        self,
        client: MatClient,
        processes: Processes,
        nodes: Sequence[NodeSpec],
        patient: Patient,
    ) -> None:
        self._rogue: Callable[[PlantTruth], None] | None = None
        super().__init__(client, processes, nodes, patient.mass)
        self._intake = {
            "sex": patient.sex,
            "age": float(patient.age),
            "stature": float(patient.stature),
            "mass": float(patient.mass),
        }
        self.odd: list[str] = []
        self.recorded = ""  # folder of the session of this case
        self._publishers: list[Publisher] = []
        self._permit: DrivePermit | None = None
        client.listen("drive/permit", self._on_permit)

    def _on_truth(self, msg: PlantTruth) -> None:
        super()._on_truth(msg)
        if self._rogue is not None:
            self._rogue(msg)

    def _on_permit(self, msg: DrivePermit) -> None:
        self._permit = msg

    # -- what can be done to it ----------------------------------------------------------------

    def tamper(self, *faults: str) -> int:
        """Tamper with messages in these ways and no others; return since which drive cycle.

        See `tamper.py`.
        """
        self.set("tamper", "faults", list(faults) or [""])
        return int(self.client.parameter("tamper", "since"))

    def hear(self, rogue: Callable[[PlantTruth], None] | None) -> None:
        """Let somebody act on every cycle; None: nobody any more."""
        self._rogue = rogue

    def topic(self, name: str) -> Publisher:
        """Return a publisher that lives until the case is over."""
        publisher = self.client.publisher(name)
        self._publishers.append(publisher)
        return publisher

    def boot_id(self) -> str:
        """Identity of the running supervisor, as its permits say it."""
        self.client.wait(lambda: self._permit is not None, WALL_LIMIT, "drive/permit")
        assert self._permit is not None
        return str(self._permit.boot_id)

    def last_permit(self) -> int:
        """Wait until the supervisor has fallen silent; return the drive cycle it last answered."""

        def silent() -> bool:
            return self._permit is not None and self.cycle > self._permit.cycle + SILENT

        self.client.wait(silent, WALL_LIMIT, "the end of drive/permit")
        assert self._permit is not None
        return int(self._permit.cycle)

    def hold_hand_control(self, held: bool) -> None:
        """Let the virtual person hold the hand control, or let go of it."""
        name = "mat_simulator/hold_hand_control"
        self.client.call(SetBool, name, SetBool.Request(data=held), repeat=True)

    def end_session(self) -> None:
        """Let the supervisor hear of a session that ends: its limits are those of the file."""
        self.tamper(f"session/state set phase {SessionState.TREAT}")
        self.cycles(60)
        self.tamper()
        self.cycles(60)

    def come_back(self) -> None:
        """Reset the mat; then nothing may move by itself."""
        reset = self.cycle if self.stopped() else None
        self.prepare()
        if reset is not None:
            height = np.array([m.position for m in self.truth if m.cycle > reset])
            if height.max() > DOWN:
                self.odd.append(f"a tip at {1e3 * height.max():.1f} mm after the reset")

    def leave(self) -> None:
        """Take back what the case put into the graph."""
        self.hear(None)
        for publisher in self._publishers:
            self.client.withdraw(publisher)
        self._publishers.clear()

    # -- moments ---------------------------------------------------------------------------------

    def at(self, moment: str) -> Sent | None:
        """Bring the mat to one of the MOMENTS; return what runs there.

        Raises:
            Disturbed: what was to run there ended before.
        """
        self.recorded = ""
        del self.truth[:-1]
        sent: Sent | None = MOMENTS[moment](self)
        return sent

    def _force(self) -> float:
        return float(max(self.truth[-1].force))

    def _approach(self) -> Sent:
        sent = self.press()
        low = self.layout.finger.stroke[0]
        self.until(sent, lambda: max(self.truth[-1].position) > low + RISEN)
        return sent

    def _contact(self) -> Sent:
        sent = self.press()
        self.until(sent, lambda: self._force() > FELT)
        return sent

    def _stopping(self) -> Sent:
        sent = self.pressed(0.5)
        self.client.trigger("stop")
        return sent

    def _scan(self) -> Sent:
        goal = ScanSpine.Goal(**self._intake, stiffness=True)
        sent = self.client.send(ScanSpine, "scan_spine", goal)
        self.until(sent, lambda: self._force() > LOADED)
        return sent

    def _session(self) -> Sent:
        who = f"p{self.cycle}"  # somebody new: the ledger lets nobody come three times a day
        goal = RunSession.Goal(**self._intake, person_id=who, programme="demo")
        sent = self.client.send(RunSession, "run_session", goal)
        self.until(sent, lambda: self._phase() == SessionState.TREAT and self._force() > TREATED)
        assert self.client.session is not None
        self.recorded = self.client.session.folder
        return sent

    def _phase(self) -> int:
        s = self.client.session
        return SessionState.IDLE if s is None else int(s.phase)

    def _pause(self) -> Sent:
        sent = self._session()
        self.client.trigger("pause")
        self.until(sent, lambda: self._phase() == SessionState.PAUSED and self.down())
        return sent


MOMENTS: dict[str, Callable[[Trial], Sent | None]] = {
    "rest": lambda _trial: None,
    "approach": Trial._approach,
    "contact": Trial._contact,
    "rising": lambda trial: trial.pressed(0.2),
    "peak": lambda trial: trial.pressed(0.45),
    "release": lambda trial: trial.pressed(0.7),
    "stopping": Trial._stopping,
    "scan": Trial._scan,
    "treat": Trial._session,
    "paused": Trial._pause,
}
