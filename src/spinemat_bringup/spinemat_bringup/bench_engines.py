"""One truth, several engines: the same presses on the same person in MuJoCo, DART and Gazebo.

MuJoCo is what every other figure of the product is made with, so the others are judged by it. DART
runs wherever the requirements are installed; it reads the world that is written for Gazebo. Gazebo
takes part where `gz` and ros_gz_bridge are installed: its server runs that world, and this process
stands where the adapter would.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import rclpy
from ament_index_python.packages import PackageNotFoundError, get_package_prefix

from spinemat.layout import load_layout
from spinemat_bringup.gazebo_paths import missing_modules, python_path
from spinemat_bringup.graph import share
from spinemat_bringup.outcome import Outcome
from spinemat_ros.spin import make_executor
from spinemat_sim.dart_plant import DartPlant
from spinemat_sim.dart_trials import LEVELS, Engine, try_engine
from spinemat_sim.gazebo_adapter import RemotePlant
from spinemat_sim.gazebo_world import write_world
from spinemat_sim.person import lie_down
from spinemat_sim.plant import Plant
from spinemat_sim.population import find_patient
from spinemat_sim.urdf import expand_urdf

FORCE, INDENTATION, CONTOUR = 0.05, 0.10, 1.0  # shares, and mm: largest differences
SPACE = "/bench"
START, ANSWER, END = 60.0, 20.0, 5.0  # s of wall time: first state, next state, after SIGINT


def engines(patient: str, seed: int, say: Callable[[str], None]) -> Outcome:
    """Compare the engines that are installed.

    Args:
        patient: preset, path of a YAML file or row of the survey; empty: the average adult.
        seed: of person, sensors and drives.
        say: gets a line for each engine.

    Raises:
        InvalidInput: the patient is not known.
        RuntimeError: Gazebo is installed but does not work.
    """
    started = time.monotonic()
    mat, xacro = share("config", "mat.yaml"), share("urdf", "mat.urdf.xacro")
    layout, urdf = load_layout(mat), expand_urdf(xacro, mat)
    person = lie_down(find_patient(patient, seed))
    found: dict[str, Engine] = {}

    def run(name: str, plant: Plant) -> None:
        found[name] = try_engine(plant)
        say(f"{name}: {found[name].times_real_time:.2f} times real time")

    mujoco = Plant(layout, person, urdf, seed)
    run("mujoco", mujoco)
    run("dart", DartPlant(layout, person, urdf, seed=seed, trunk=mujoco.trunk))
    missing = missing_of_gazebo()
    if missing:
        say(f"gazebo: not tried, {missing}")
    else:
        with tempfile.TemporaryDirectory() as folder:
            world = Path(folder, "world.sdf")
            write_world(world, mat, patient, seed, SPACE, xacro)
            bridge = Path(get_package_prefix("ros_gz_bridge"), "lib/ros_gz_bridge/bridge_node")
            config = share("config", "gazebo", "bridge.yaml")
            commands = [
                ["gz", "sim", "-s", "-r", str(world)],
                [str(bridge), "--ros-args", "-r", f"__ns:={SPACE}", "-p",
                 f"config_file:={config}", "-p", "expand_gz_topic_names:=true"],
            ]  # fmt: skip
            with remote(commands, Path(folder), layout, person, urdf, seed=seed) as plant:
                run("gazebo", plant)
    outcome = Outcome("bench engines", time.monotonic() - started)
    for name, engine in found.items():
        if name != "mujoco":
            compare(outcome, name, engine, found["mujoco"])
        stopped = f"{name}: fingers that"
        outcome.check(f"{stopped} pressed before the stop", engine.loaded, ">=", layout.n // 2)
        outcome.check(f"{stopped} press after it", engine.pressing, "==", 0)
        outcome.check(f"{stopped} are not down after it", engine.standing, "==", 0)
    outcome.details = {
        "levels": LEVELS,
        "engines": {name: asdict(engine) for name, engine in found.items()},
        "not_tried": {"gazebo": missing} if missing else {},
    }
    return outcome


def compare(outcome: Outcome, name: str, engine: Engine, reference: Engine) -> None:
    """Add the checks of one engine against another."""
    for i, level in enumerate(LEVELS):
        for kind, what, limit in (
            ("force", "peak force", FORCE),
            ("depth", "indentation", INDENTATION),
        ):
            off = [
                abs(
                    float(getattr(engine, way + kind)[i] / getattr(reference, way + kind)[i]) - 1.0
                )
                for way in ("travel_", "")
            ]
            outcome.check(f"{name} {level}: {what} off by", max(off), "<=", limit)
    low, high = max(engine.x[0], reference.x[0]), min(engine.x[-1], reference.x[-1])
    x = np.linspace(low, high, 100)
    here, there = (np.interp(x, e.x, e.contour) for e in (engine, reference))
    outcome.check(
        f"{name}: contour off by, mm", float(np.abs(here - there).max() * 1e3), "<=", CONTOUR
    )


def missing_of_gazebo() -> str:
    """Why a run in Gazebo is not possible here; empty when it is."""
    if shutil.which("gz") is None:
        return "gz is not installed"
    try:
        get_package_prefix("ros_gz_bridge")
    except PackageNotFoundError:
        return "ros_gz_bridge is not installed"
    return missing_modules(sys.path)


@contextmanager
def remote(
    commands: Sequence[Sequence[str]], folder: Path, *arguments: object, **keywords: object
) -> Iterator[RemotePlant]:
    """A plant that other processes move.

    Args:
        commands: of the processes.
        folder: for what they say.
        arguments, keywords: as for `Plant`.

    Raises:
        RuntimeError: no state comes from them.
    """
    environment = os.environ | {
        "GZ_PARTITION": uuid.uuid4().hex,
        "GZ_IP": "127.0.0.1",
        "PYTHONPATH": python_path(sys.path),
    }
    logs = [folder / f"{i}.log" for i in range(len(commands))]
    processes = []
    rclpy.init()
    node = rclpy.create_node("bench_engines", namespace=SPACE)
    executor = make_executor(node)
    try:
        for command, log in zip(commands, logs, strict=True):
            with log.open("wb") as file:
                processes.append(
                    subprocess.Popen(
                        command, stdout=file, stderr=file, env=environment, start_new_session=True
                    )
                )
        plant = RemotePlant(node, *arguments, **keywords)

        def wait(arrived: Callable[[], bool]) -> bool:
            end = time.monotonic() + (ANSWER if plant.engine_cycle else START)
            while not arrived():
                executor.spin_once(timeout_sec=0.1)
                if time.monotonic() > end:
                    said = "; ".join(log.read_text(errors="replace")[-400:] for log in logs)
                    raise RuntimeError(f"no state came from {commands[0][0]}: {said}")
            return True

        plant.wait_with(wait)
        plant.take_over()
        yield plant
    finally:
        for process in processes:
            _end(process)
        node.destroy_node()
        rclpy.try_shutdown()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children; Gazebo's server may hang."""
    for sign in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(END)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
