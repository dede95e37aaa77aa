"""Figures and checks of a command: one JSON shape, one table, one exit status."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

RELATIONS = {
    "<=": lambda value, limit: value <= limit,
    ">=": lambda value, limit: value >= limit,
    "==": lambda value, limit: value == limit,
}


@dataclass(frozen=True)
class Check:
    """A figure against its limit; a figure that is NaN or missing fails."""

    name: str
    value: Any
    limit: Any
    relation: str

    @property
    def passed(self) -> bool:
        """Whether the value keeps the limit."""
        if self.value is None or (isinstance(self.value, float) and math.isnan(self.value)):
            return False
        return bool(RELATIONS[self.relation](self.value, self.limit))


@dataclass
class Outcome:
    """What a command found."""

    command: str
    seconds: float = 0.0
    checks: list[Check] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def check(self, name: str, value: Any, relation: str, limit: Any) -> None:
        """Add a check."""
        self.checks.append(Check(name, value, limit, relation))

    @property
    def passed(self) -> bool:
        """Whether all checks pass; no check at all is no success."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Return the one shape that all commands write."""
        return {
            "command": self.command,
            "version": software_version(),
            "environment": environment(),
            "seconds": round(self.seconds, 3),
            "checks": [asdict(c) | {"pass": c.passed} for c in self.checks],
            **self.details,
        }

    def write(self, path: Path | None) -> None:
        """Write the JSON file, if one is wanted; NaN becomes null."""
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(plain(self.as_dict()), indent=1) + "\n", encoding="utf-8")

    def show(self, console: Console) -> None:
        """Print the checks as a table."""
        table = Table(title=f"spinemat {self.command}", title_justify="left")
        for column, side in (
            ("check", "left"),
            ("value", "right"),
            ("", "center"),
            ("limit", "right"),
            ("", "left"),
        ):
            table.add_column(column, justify=side)  # type: ignore[arg-type]
        for c in self.checks:
            verdict = "[green]pass[/]" if c.passed else "[bold red]FAIL[/]"
            table.add_row(c.name, _short(c.value), c.relation, _short(c.limit), verdict)
        console.print(table)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def plain(value: Any) -> Any:
    """Return value as plain JSON types."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def software_version() -> str:
    """Version of the installed product."""
    from spinemat import __version__

    return __version__


def environment() -> dict[str, Any]:
    """What a figure depends on."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "ros": "installation" if os.environ.get("ROS_DISTRO") else "wheels",
        "mujoco": _version("mujoco"),
        "numpy": np.__version__,
        "rclpy": _version("ros-rclpy"),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except Exception:
        return "unknown"


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
