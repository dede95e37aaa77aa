"""Nodes that answer and do nothing else: the baselines of `spinemat bench`.

`drive_echo` answers every drive state with a command of the same size, `service_echo` answers the
service `echo`: what rclpy and DDS take for the same messages.
"""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.node import Node
from std_srvs.srv import Trigger

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


class ServiceEcho(Node):
    """A request in, a response out."""

    def __init__(self) -> None:
        super().__init__("service_echo")
        self.create_service(Trigger, "echo", self._on_call)

    def _on_call(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = True
        return response


def main(args: Sequence[str] | None = None) -> None:
    """Run drive_echo."""
    run(DriveEcho, args)


def service_main(args: Sequence[str] | None = None) -> None:
    """Run service_echo."""
    run(ServiceEcho, args)
