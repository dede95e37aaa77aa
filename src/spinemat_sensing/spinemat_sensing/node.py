"""Node spine_contour: feels the back through the fingers.

It moves nothing by itself: a scan asks finger_actuation to press lightly, listens to
`fingers/state` and hands the samples to the estimators in `spinemat`.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from rclpy.action.server import ServerGoalHandle
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from spinemat.anatomy import check_intake
from spinemat.errors import InvalidInput
from spinemat.reactions import Presence
from spinemat.scan import THINKING, Outcome, PersonMoved, Samples, ScanRefused, SpineScan
from spinemat.scan_log import Begin, Entry, Learnt, Pressed, evaluate, kind, known_heights, write
from spinemat_interfaces.action import Press, ScanSpine
from spinemat_interfaces.msg import Event, FingerState
from spinemat_ros.calls import ActionCall, CycleWaiter, ServerLost, press_message
from spinemat_ros.codec import floats, nanoseconds
from spinemat_ros.node import Voice, declare_layout, header, publisher, subscription
from spinemat_ros.script import Ending, ScriptServer
from spinemat_ros.spin import run
from spinemat_sensing.messages import contour_message, pose_message, stiffness_message
from spinemat_sensing.strip import PostureStrip, declare_strip
from spinemat_sensing.watching import Watching


class SpineContour(LifecycleNode):
    """Wiring of `SpineScan`, of the watches and of the posture strip."""

    def __init__(self) -> None:
        super().__init__("spine_contour")
        self._layout = declare_layout(self)
        self._places = declare_strip(self)
        self._active = False

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Create everything."""
        self._busy = False
        self._height: np.ndarray | None = None
        self._samples = Samples()
        self._tense: set[int] = set()  # fingers around which muscles tensed in this press
        self._moved = ""  # how the person moved in it
        self._cycles = CycleWaiter()
        self._contours = publisher(self, "contour")
        self._maps = publisher(self, "stiffness")
        self._poses = publisher(self, "body_pose")
        self._inputs = publisher(self, "scan/inputs")
        self._thinker = ThreadPoolExecutor(max_workers=1)  # heartbeats go on meanwhile
        self._voice = Voice(self, self._layout)
        self._watching = Watching(self, self._layout, self._voice)
        self._strip = PostureStrip(self, self._voice, self._places)
        self._press = ActionCall(self, Press, "fingers/press")
        subscription(self, "fingers/state", self._on_fingers)
        ScriptServer(self, ScanSpine, "scan_spine", self._scan)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Accept scans from now on."""
        self._active = True
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Refuse scans; a running one is cancelled."""
        self._active = False
        return super().on_deactivate(state)

    def _on_fingers(self, msg: FingerState) -> None:
        now = nanoseconds(msg.header.stamp)
        position, force = floats(msg.position), floats(msg.force)
        if position.shape != (self._layout.n,) or not np.isfinite(position + force).all():
            return
        if self._busy:
            self._samples.add(msg.cycle, position, force)
        self._voice.tick(msg.cycle, now)
        felt = self._watching.add(msg)
        self._tense.update(np.flatnonzero(felt.tense).tolist())
        if felt.moving and not self._moved:
            self._moved = felt.reason
        if felt.presence == Presence.ABSENT:
            self._strip.intake = None
        self._press.poll()
        self._cycles.seen(msg.cycle)

    # -- scanning --------------------------------------------------------------------------

    async def _scan(self, handle: ServerGoalHandle) -> tuple[Ending, ScanSpine.Result]:
        r = handle.request
        refusal = ""
        await self._press.find()
        share = floats(r.share) if len(r.share) else None
        try:
            intake = check_intake(r.sex, r.age, r.stature, r.mass)
            SpineScan(self._layout, intake, share=share)  # says what is wrong with the share
        except InvalidInput as error:
            refusal = str(error)
        if refusal:
            pass
        elif self._busy:
            refusal = "scan_spine: a scan is running; wait for it or cancel it"
        elif not self._active:
            refusal = "scan_spine: the node is not active"
        elif not self._press.ready():
            refusal = "scan_spine: finger_actuation does not answer"
        if refusal:
            self._voice.say("refused", f"scan: {refusal}")
            cycle = self._voice.cycle
            return Ending.ABORTED, ScanSpine.Result(message=refusal, end_cycle=cycle)
        self._busy = True
        try:
            self._strip.intake = intake
            known = self._height if r.same_person else None
            self._height = None  # until this person has been felt
            if not r.same_person:
                self._watching.watches.forget()
            for tries in (1, 2):
                scan = SpineScan(self._layout, intake, known, r.full, share)
                start = r.start_cycle if tries == 1 else 0
                self._log(
                    Begin(
                        self._voice.cycle, r.sex, r.age, r.stature, r.mass,
                        r.same_person or tries > 1, r.full, r.stiffness, start,
                        known_heights(known), None if share is None else tuple(share.tolist()),
                    )
                )  # fmt: skip
                try:
                    return await self._run_scan(handle, scan, start)
                except PersonMoved as error:
                    self._voice.say("moved", f"scan: {error}", severity=Event.WARNING)
                    moved = error
                known = self._height = None
            message = f"{moved}, twice; lie still and scan again"
            result = ScanSpine.Result(message=message, end_cycle=self._voice.cycle)
            return Ending.ABORTED, result
        finally:
            self._busy = False
            self._samples.clear()

    def _log(self, entry: Entry) -> None:
        """Publish what a scan was given, for recordings."""
        self._inputs.publish(
            Event(
                header=header(self, self._voice.now),
                source=self.get_name(),
                kind=kind(entry),
                data=write(entry),
            )
        )

    async def _run_scan(
        self, handle: ServerGoalHandle, scan: SpineScan, start_cycle: int
    ) -> tuple[Ending, ScanSpine.Result]:
        result = ScanSpine.Result()

        def unwanted() -> bool:
            return bool(handle.is_cancel_requested) or not self._active

        try:
            for step in scan.steps(start_cycle, handle.request.stiffness):
                handle.publish_feedback(
                    ScanSpine.Feedback(phase=step.phase, percent=step.percent, row=step.row)
                )
                self._samples.clear()
                self._tense.clear()
                self._moved = ""
                answer = await self._press.call(press_message(step.goal), unwanted)
                if not answer.success:
                    raise ScanRefused(answer.message)
                result.end_cycle = answer.end_cycle
                await self._cycles.until(answer.end_cycle)
                contact = np.array(answer.contact, dtype=bool)
                tense = tuple(sorted(self._tense))
                cycles = answer.loaded_cycle, answer.end_cycle
                felt = (tense, self._moved)
                self._log(Pressed(self._voice.cycle, *cycles, tuple(contact.tolist()), *felt))
                scan.take(Outcome(*cycles, contact, *felt), self._samples)
                if scan.contour is not None and not result.contour.method:
                    self._height = scan.height
                    result.contour = contour_message(header(self, self._voice.now), scan.contour)
                    self._contours.publish(result.contour)
        except PersonMoved:
            raise
        except (ScanRefused, ServerLost) as error:
            result.message = str(error)
            self._voice.say("scan", f"scan ended early: {error}")
            result.end_cycle = self._voice.cycle
            cancelled = bool(handle.is_cancel_requested)
            return Ending.CANCELED if cancelled else Ending.ABORTED, result
        if handle.request.stiffness:
            thought = self._thinker.submit(evaluate, scan)
            result.end_cycle += round(THINKING / self._layout.cycle)
            await self._cycles.until(result.end_cycle)
            while not thought.done():  # a slow machine
                await self._cycles.until(self._voice.cycle + 1)
                result.end_cycle = self._voice.cycle
            found = thought.result()
            head = header(self, self._voice.now)
            assert scan.contour is not None
            result.contour = contour_message(head, scan.contour)
            self._contours.publish(result.contour)
            result.stiffness = stiffness_message(head, *found)
            self._maps.publish(result.stiffness)
            self._watching.watches.learn(scan)
            self._log(Learnt(self._voice.cycle))
            if found.lies is not None:
                self._poses.publish(pose_message(head, scan.contour, found.lies))
        result.success = True
        return Ending.SUCCEEDED, result


def main(args: Sequence[str] | None = None) -> None:
    """Run the node."""
    run(SpineContour, args)
