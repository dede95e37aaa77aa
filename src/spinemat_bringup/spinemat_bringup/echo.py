"""Node drive_echo: answers every drive state with a command of the same size, nothing else.

The baseline that `spinemat bench control` measures finger_actuation against: what rclpy and DDS
take for the same messages.
"""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.node import Node

from spinemat_interfaces.msg import DriveCommand, DriveState
from spinemat_ros.node import publisher, subscription
from spinemat_ros.spin import run
from spinemat_ros.topics import NEWEST


class DriveEcho(Node):
    """A drive state in, a drive command out."""

    def __init__(self) -> None:
        super().__init__("drive_echo")
        self._commands = publisher(self, "drive/command")
        subscription(self, "drive/state", self._on_state, NEWEST)

    def _on_state(self, msg: DriveState) -> None:
        self._commands.publish(
            DriveCommand(
                header=msg.header,
                cycle=msg.cycle,
                velocity=msg.velocity,
                force_ceiling=msg.force,
            )
        )


def main(args: Sequence[str] | None = None) -> None:
    """Run the node."""
    run(DriveEcho, args)
