"""Node safety_supervisor as the fault campaign runs it: the same, with two ways to spoil it.

The parameter `without_rule` switches one rule off: the campaign shows that its case then ends
otherwise, so that no rule is untested. The parameter `busy` burns processor time in the next two
judgements. Neither exists in the supervisor that people lie on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter

from spinemat.rules import RULES, Rule, View
from spinemat_ros.node import declare
from spinemat_ros.spin import run
from spinemat_safety.node import SafetySupervisor


class CampaignSupervisor(SafetySupervisor):
    """A supervisor whose rules can be switched off."""

    def __init__(self) -> None:
        super().__init__()
        declare(self, "without_rule", "", "name of a rule to switch off", read_only=False)
        declare(self, "busy", 0.0, "s of processor time, two judgements", read_only=False)
        self._busy: list[float] = []
        self._without("")
        self.add_on_set_parameters_callback(self._on_parameters)

    def _without(self, name: str) -> None:
        rules = (Rule("busy", "", "", "", self._burn), *RULES)
        self._supervisor.rules = tuple(rule for rule in rules if rule.name != name)

    def _burn(self, _view: View) -> None:
        end = time.thread_time() + (self._busy.pop() if self._busy else 0.0)
        while time.thread_time() < end:
            pass

    def _on_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name == "without_rule":
                self._without(parameter.value)
            elif parameter.name == "busy":
                self._busy = [parameter.value] * 2
        return SetParametersResult(successful=True)


def main(args: Sequence[str] | None = None) -> None:
    """Run the node."""
    run(CampaignSupervisor, args)
