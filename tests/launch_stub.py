"""As much of `launch` and `launch_ros` as our launch files use, where these are not installed.

Actions keep what they are given and do nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any


class Action:
    """Keeps what it is given."""

    def __init__(self, *_words: Any, **given: Any) -> None:
        self.given = given


class LaunchContext:
    """The values of arguments."""

    is_shutdown = False

    def __init__(self) -> None:
        self.launch_configurations: dict[str, str] = {}


class LaunchDescription:
    """A list of actions."""

    def __init__(self, entities: list[Any]) -> None:
        self.entities = entities


class DeclareLaunchArgument(Action):
    """Gives an argument its default."""

    def __init__(self, name: str, *, default_value: str, description: str) -> None:
        self.name, self.default_value, self.description = name, default_value, description

    def execute(self, context: LaunchContext) -> None:
        """Let the argument have a value."""
        context.launch_configurations.setdefault(self.name, self.default_value)


class OpaqueFunction(Action):
    """Calls a function for more actions."""

    def __init__(self, *, function: Callable[[LaunchContext], Any]) -> None:
        self.execute = function


class GroupAction(Action):
    """Actions in a group."""

    def __init__(self, actions: list[Any]) -> None:
        self.execute = lambda _context: actions


class ExecuteProcess(Action):
    """A process."""

    def __init__(self, *, cmd: list[str], name: str, **given: Any) -> None:
        super().__init__(**given)
        self.cmd, self.name = cmd, name


class Node(ExecuteProcess):
    """A node's process."""

    def __init__(self, *, package: str, executable: str, name: str, namespace: str, **given: Any):
        super().__init__(cmd=[], name=name, **given)
        self.node_package, self.node_executable = package, executable
        self.node_name = f"{namespace}/{name}"

    def _perform_substitutions(self, _context: LaunchContext) -> None:
        """Nothing is left to substitute."""


def modules() -> dict[str, ModuleType]:
    """Return the modules by name."""
    content: dict[str, dict[str, Any]] = {
        "launch": {"LaunchContext": LaunchContext, "LaunchDescription": LaunchDescription},
        "launch.action": {"Action": Action},
        "launch.actions": {
            "DeclareLaunchArgument": DeclareLaunchArgument,
            "ExecuteProcess": ExecuteProcess,
            "GroupAction": GroupAction,
            "OpaqueFunction": OpaqueFunction,
            "RegisterEventHandler": Action,
        },
        "launch.event_handlers": {"OnProcessExit": Action},
        "launch.events": {},
        "launch.events.process": {"ProcessExited": Action},
        "launch.logging": {"get_logger": logging.getLogger},
        "launch.utilities": {"perform_substitutions": lambda _context, words: words},
        "launch_ros": {},
        "launch_ros.actions": {"Node": Node, "SetParameter": Action},
        "launch_ros.parameter_descriptions": {"ParameterValue": lambda value, value_type: value},
    }
    made = {name: ModuleType(name) for name in content}
    for name, module in made.items():
        vars(module).update(content[name])
        above, _, last = name.rpartition(".")
        if above:
            setattr(made[above], last, module)
    return made
