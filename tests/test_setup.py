"""The script `spinemat`: what it asks of a machine, when it sets up again, and how it recovers.

These tests work on a small copy of the repository; none installs or builds anything for real. At
the end stand the rules of the house that a package or the lock file could break unnoticed.
"""

from __future__ import annotations

import ast
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
INTERPRETER = getattr(sys, "_base_executable", sys.executable)
TOOLS = """
    awk bash cat chmod cp dirname env find flock getconf grep ln mkdir nproc readlink rm sed
    sha256sum sleep sort tail touch uname xargs make cc c++ gcc g++ cmake
"""


class Clone:
    """A copy of the script with a few sources around it, and a PATH of chosen tools."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "clone"
        self.bin = folder / "bin"
        self.bin.mkdir()
        for tool in TOOLS.split():
            if found := shutil.which(tool):
                (self.bin / tool).symlink_to(found)
        for path, text in {
            "src/spinemat_interfaces/CMakeLists.txt": "project(spinemat_interfaces)\n",
            "src/spinemat_interfaces/msg/DriveState.msg": "uint64 cycle\n",
            "src/spinemat/setup.py": "",
            "src/spinemat/package.xml": "<package/>",
            "src/spinemat/spinemat/layout.py": "",
            "src/spinemat_bringup/spinemat_bringup/cli.py": "",
            "config/mat.yaml": "rows: []\n",
        }.items():
            self.write(path, text)
        for name in ("spinemat", "requirements.lock"):
            shutil.copy(REPOSITORY / name, self.root / name)
        self.environment = {
            "HOME": str(folder),
            "PATH": str(self.bin),
            "SPINEMAT_NO_APT": "1",
            "SPINEMAT_PYTHON": INTERPRETER,
        }

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def tool(self, name: str, text: str) -> str:
        """Put a program of our own on the PATH."""
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)
        return str(self.bin / name)

    def call(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Call the script as a person does."""
        return subprocess.run(
            [str(self.root / "spinemat"), *arguments],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def source(self, commands: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run commands in a shell of their own that knows the functions of the script."""
        return subprocess.run(
            ["bash", "-c", f". {self.root}/spinemat\nchoose_ros\n{commands}"],
            env=self.environment | environment,
            start_new_session=True,  # a test kills its process group
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def refusal(answer: subprocess.CompletedProcess[str]) -> str:
    """Return the one line with which the script refused."""
    assert answer.returncode == 1, answer.stderr
    assert answer.stdout == ""
    lines = answer.stderr.splitlines()
    assert len(lines) == 1, answer.stderr
    assert lines[0].startswith("spinemat: ")
    return lines[0]


# --- What the machine lacks is said in one line --------------------------------------------------


@pytest.mark.parametrize(
    ("tools", "package"),
    [
        (["cmake"], "cmake"),
        (["cc", "gcc"], "build-essential"),
        (["c++", "g++"], "build-essential"),
        (["make"], "build-essential"),
    ],
)
def test_a_missing_tool_is_named_by_its_package(
    clone: Clone, tools: list[str], package: str
) -> None:
    for tool in tools:
        (clone.bin / tool).unlink(missing_ok=True)
    line = refusal(clone.call("demo"))
    assert line.endswith(f"apt-get install {package}")
    assert not (clone.root / ".venv").exists()


def test_missing_headers_and_venv_module_are_named_for_that_python(clone: Clone) -> None:
    stub = "python_facts() { printf '%s\\n' /usr/bin/python3.11 3.11.2 no no; }\n"
    line = refusal(clone.source(stub + "set_up"))
    assert line.endswith("apt-get install python3.11-dev python3.11-venv")


def test_without_any_python_the_packages_of_python_are_named(clone: Clone) -> None:
    line = refusal(clone.call(SPINEMAT_PYTHON=""))
    assert line.endswith("apt-get install python3 python3-dev python3-venv")


@pytest.mark.parametrize("version", ["(3, 9, 18)", "(3, 14, 0)"])
def test_an_unsupported_python_is_refused(clone: Clone, version: str) -> None:
    pretend = f"import sys; sys.version_info = {version}; exec(sys.stdin.read())"
    python = clone.tool("python-of-another-age", f"#!/bin/sh\nexec {INTERPRETER} -c '{pretend}'\n")
    line = refusal(clone.call(SPINEMAT_PYTHON=python))
    assert python in line and "3.10 to 3.13" in line


def test_a_shim_that_does_not_run_is_passed_over(clone: Clone) -> None:
    clone.tool("python3.12", "#!/bin/sh\nexit 127\n")
    clone.tool("python3.11", "#!/bin/sh\nexit 127\n")
    clone.tool("python3.10", "#!/bin/sh\nexit 127\n")
    clone.tool("python3.13", f'#!/bin/sh\nexec {INTERPRETER} "$@"\n')
    answer = clone.source('choose_python; echo "$PYTHON_VERSION"', SPINEMAT_PYTHON="")
    assert answer.stdout.strip() == ".".join(map(str, sys.version_info[:3]))


@pytest.mark.parametrize(("system", "machine"), [("Linux", "aarch64"), ("Darwin", "arm64")])
def test_another_platform_is_refused(clone: Clone, system: str, machine: str) -> None:
    clone.tool("uname", f"#!/bin/sh\n[ $1 = -s ] && echo {system} || echo {machine}\n")
    line = refusal(clone.call())
    assert "Linux" in line
    assert (machine if system == "Linux" else system) in line


def test_a_folder_that_breaks_the_build_tools_is_refused(clone: Clone) -> None:
    clone.root = clone.root.rename(clone.root.parent / "my clone")
    assert "my clone" in refusal(clone.call())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may install packages")
def test_root_has_the_missing_package_installed(clone: Clone) -> None:
    cmake = (clone.bin / "cmake").readlink()
    (clone.bin / "cmake").unlink()
    log = clone.root.parent / "apt.log"
    script = f'#!/bin/sh\necho "$@" >>{log}\n'
    clone.tool("apt-get", f"{script}exit 1\n")
    answer = clone.source("set_up", SPINEMAT_NO_APT="")
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[0] == "spinemat: installing with apt-get: cmake"
    assert answer.stderr.splitlines()[1].endswith("apt-get install cmake")
    assert "update" in log.read_text()

    clone.tool("apt-get", f"{script}ln -s {cmake} {clone.bin}/cmake\n")
    answer = clone.source(f"{STUBS}set_up", SPINEMAT_NO_APT="")
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.splitlines()[0] == "spinemat: installing with apt-get: cmake"


# --- ROS installations ---------------------------------------------------------------------------


def test_another_ros_distribution_is_refused(clone: Clone) -> None:
    line = refusal(clone.call(ROS_DISTRO="humble"))
    assert "humble" in line and "Jazzy" in line


def test_a_sourced_jazzy_is_used_only_if_it_is_one(clone: Clone) -> None:
    marker = "share/ament_index/resource_index/packages/rclpy"
    installation = clone.root.parent / "jazzy"
    (installation / marker).parent.mkdir(parents=True)
    (installation / marker).touch()
    clone.write(f".venv/{marker}", "")
    prefixes = f"{clone.root}/.venv:/nowhere:{installation}"

    def found(**environment: str) -> str:
        return clone.source('echo "$ROS"', **environment).stdout.strip()

    assert found(ROS_DISTRO="jazzy", AMENT_PREFIX_PATH=prefixes) == str(installation)
    assert found(ROS_DISTRO="jazzy", AMENT_PREFIX_PATH=f"{clone.root}/.venv:/nowhere") == ""
    assert found(ROS_DISTRO="jazzy") == ""
    assert found(AMENT_PREFIX_PATH=prefixes) == ""


# --- Mending the wheels --------------------------------------------------------------------------


def test_cmake_paths_of_the_wheels_are_mended(clone: Clone, tmp_path: Path) -> None:
    foreign = "/opt/python/cp312-cp312"
    export = tmp_path / "prefix/share/std_msgs/cmake/export.cmake"
    export.parent.mkdir(parents=True)
    export.write_text(
        f'INCLUDE "{foreign}/include/python3.12;${{_IMPORT_PREFIX}}/include"\n'
        f'NUMPY "{foreign}/lib/python3.12/site-packages/numpy/_core/include;/usr/include"\n'
        f'OLD "{foreign}/lib/python3.12/site-packages/numpy/core/include"\n'
    )
    other = export.with_suffix(".txt")
    other.write_text(foreign)
    command = f"mend_cmake_paths {tmp_path}/prefix /py/include /np/include"
    for _ in range(2):
        assert clone.source(command).returncode == 0
        assert export.read_text() == (
            'INCLUDE "/py/include;${_IMPORT_PREFIX}/include"\n'
            'NUMPY "/np/include;/usr/include"\n'
            'OLD "/np/include"\n'
        )
        assert other.read_text() == foreign


# --- When it sets up again -----------------------------------------------------------------------

STUBS = """
make_venv() {
  echo venv >>"$ROOT/steps"
  rm -rf "$VENV" "$BUILD_STAMP" && mkdir -p "$VENV/bin" && touch "$VENV/bin/python"
  chmod +x "$VENV/bin/python"
}
install_requirements() { echo requirements >>"$ROOT/steps"; }
mend_wheels() { echo mend >>"$ROOT/steps"; }
colcon_build() { echo colcon >>"$ROOT/steps"; mkdir -p "$ROOT/build" "$ROOT/install"; }
write_environment() { echo "PYTHONPATH=/of/the/workspace" >"$ENVIRONMENT"; }
"""
EVERYTHING = ["venv", "requirements", "mend", "colcon"]


class SetUp:
    """The set-up of a clone with stubs for what takes long."""

    def __init__(self, clone: Clone) -> None:
        self.clone = clone

    def __call__(self, more: str = "", *, status: int = 0, **environment: str) -> list[str]:
        """Run the set-up if it is due and return the steps it took."""
        steps = self.clone.root / "steps"
        steps.unlink(missing_ok=True)
        answer = self.clone.source(f"{STUBS}{more}\nready || set_up", **environment)
        assert answer.returncode == status, answer.stderr
        return steps.read_text().split() if steps.exists() else []


@pytest.fixture
def set_up(clone: Clone) -> SetUp:
    return SetUp(clone)


def test_set_up_happens_once(clone: Clone, set_up: SetUp) -> None:
    assert set_up() == EVERYTHING
    assert float((clone.root / ".venv/spinemat-setup-seconds").read_text()) > 0
    assert set_up() == []


def test_a_moved_clone_is_set_up_again(clone: Clone, set_up: SetUp) -> None:
    set_up()
    clone.root = clone.root.rename(clone.root.parent / "elsewhere")
    assert set_up() == EVERYTHING
    assert set_up() == []


def test_new_requirements_remake_the_environment(clone: Clone, set_up: SetUp) -> None:
    set_up()
    clone.write("requirements.lock", "numpy==2.0.0\n")
    assert set_up() == EVERYTHING


def test_another_interpreter_remakes_the_environment(clone: Clone, set_up: SetUp) -> None:
    set_up()
    other = clone.tool("another-python", f'#!/bin/sh\nexec {INTERPRETER} "$@"\n')
    assert set_up(SPINEMAT_PYTHON=other) == EVERYTHING
    assert set_up(SPINEMAT_PYTHON="") == []


def test_a_vanished_interpreter_remakes_the_environment(clone: Clone, set_up: SetUp) -> None:
    set_up()
    (clone.root / ".venv/bin/python").unlink()
    (clone.root / ".venv/bin/python").symlink_to("/nowhere/python")
    assert set_up() == EVERYTHING


Change = Callable[[Clone], None]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.write("src/spinemat_interfaces/msg/DriveState.msg", "uint32 cycle\n"),
        lambda c: c.write("src/spinemat_interfaces/srv/Reset.srv", "---\n"),
        lambda c: (c.root / "src/spinemat_interfaces/msg/DriveState.msg").unlink(),
        lambda c: c.write("src/spinemat/setup.py", "# changed"),
        lambda c: c.write("src/spinemat/package.xml", "<package format='3'/>"),
        lambda c: c.write("src/spinemat_new/setup.cfg", ""),
        lambda c: c.write("config/another.yaml", ""),
        lambda c: c.write("launch/mat.launch.py", ""),
        lambda c: c.write("src/spinemat_bringup/spinemat_bringup/new.py", ""),
        lambda c: shutil.rmtree(c.root / "install"),
        lambda c: shutil.rmtree(c.root / "build"),
    ],
)
def test_what_links_do_not_show_is_built_again(
    clone: Clone, set_up: SetUp, change: Change
) -> None:
    set_up()
    change(clone)
    assert set_up() == ["colcon"]
    assert set_up() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.write("config/mat.yaml", "rows: [1]\n"),
        lambda c: c.write("src/spinemat/spinemat/layout.py", "ROWS = 13\n"),
        lambda c: c.write("src/spinemat/spinemat/new.py", ""),
        lambda c: c.write("config/mat.yaml~", ""),
        lambda c: c.write("config/.mat.yaml.swp", ""),
    ],
)
def test_edits_need_no_build(clone: Clone, set_up: SetUp, change: Change) -> None:
    set_up()
    change(clone)
    assert set_up() == []


# --- Recovery ------------------------------------------------------------------------------------

KILLED = -signal.SIGKILL


def test_a_set_up_killed_while_installing_starts_over(set_up: SetUp) -> None:
    kill = "install_requirements() { kill -9 0; }"
    assert set_up(kill, status=KILLED) == ["venv"]
    assert set_up() == EVERYTHING


def test_a_set_up_killed_while_building_builds_from_nothing(clone: Clone, set_up: SetUp) -> None:
    kill = "colcon_build() { mkdir -p $ROOT/build/half-built; kill -9 0; }"
    assert set_up(kill, status=KILLED) == ["venv", "requirements", "mend"]
    assert (clone.root / "build/half-built").exists()
    assert set_up() == ["colcon"]
    assert not (clone.root / "build/half-built").exists()


def test_a_failed_step_names_the_log_and_is_repeated(clone: Clone, set_up: SetUp) -> None:
    failing = "install_requirements() { echo no space left on the disk; false; }"
    answer = clone.source(f"{STUBS}{failing}\nready || set_up")
    log = clone.root / "log/spinemat-setup.log"
    assert answer.returncode == 1
    assert "no space left on the disk" in answer.stderr
    assert str(log) in answer.stderr.splitlines()[-1]
    assert "no space left on the disk" in log.read_text()
    assert set_up() == EVERYTHING


def test_a_build_that_fails_on_top_of_the_last_is_done_from_nothing(
    clone: Clone, set_up: SetUp
) -> None:
    set_up()
    clone.write("build/spinemat_interfaces/stale.o", "")
    clone.write("src/spinemat_interfaces/msg/DriveState.msg", "uint32 cycle\n")
    fails_on_stale = """
    colcon_build() {
      echo colcon >>"$ROOT/steps"
      [[ ! -e $ROOT/build/spinemat_interfaces/stale.o ]] && mkdir -p "$ROOT/build" "$ROOT/install"
    }
    """
    assert set_up(fails_on_stale) == ["colcon", "colcon"]
    assert set_up() == []


@pytest.fixture
def lock(clone: Clone) -> Iterator[int]:
    folder = os.open(clone.root, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    yield folder
    os.close(folder)


def test_two_calls_at_once_set_up_one_after_the_other(clone: Clone, lock: int) -> None:
    with subprocess.Popen(
        ["bash", "-c", f". {clone.root}/spinemat\nchoose_ros\n{STUBS}\nready || set_up"],
        env=clone.environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as second:
        assert second.stderr is not None
        assert "waiting" in second.stderr.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(0.3)
        assert not (clone.root / "steps").exists()
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert second.wait(30) == 0
    assert (clone.root / "steps").read_text().split() == EVERYTHING


# --- What the command line is given --------------------------------------------------------------


def test_the_environment_is_put_before_what_the_person_has(clone: Clone, set_up: SetUp) -> None:
    set_up()
    show = 'echo "$PYTHONPATH $ROS_AUTOMATIC_DISCOVERY_RANGE $SPINEMAT_SETUP_SECONDS"'
    twice = f"load_environment; load_environment; {show}"
    path, discovery, seconds = clone.source(twice, PYTHONPATH="/mine").stdout.split()
    assert path == "/of/the/workspace:/mine"
    assert discovery == "LOCALHOST"
    assert float(seconds) > 0
    mine = clone.source(twice, ROS_AUTOMATIC_DISCOVERY_RANGE="SUBNET").stdout.split()
    assert mine[:2] == ["/of/the/workspace", "SUBNET"]


# --- The packages --------------------------------------------------------------------------------

SHARED = {"spinemat", "spinemat_interfaces", "spinemat_ros"}
ALLOWED = {"spinemat": set(), "spinemat_ros": {"spinemat", "spinemat_interfaces"}}
KEYS = {"PIL": "pil", "mujoco": "mujoco-pip", "rosbags": "rosbags-pip"} | {  # of rosdep: python3-…
    name: name
    for name in (
        "alembic", "click", "jinja2", "matplotlib", "numba", "numpy", "pandas", "rich", "scipy",
        "sqlalchemy", "transforms3d", "yaml",
    )
}  # fmt: skip
PACKAGES = [path.parent.name for path in (REPOSITORY / "src").glob("*/setup.py")]


def imports(package: str) -> set[str]:
    """Return the top-level names that the sources of a package import from elsewhere."""
    found = set()
    for source in (REPOSITORY / "src" / package / package).rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found - {package}


def test_the_domain_knows_no_ros() -> None:
    ros = {name for name in imports("spinemat") if re.match("rcl|ros|ament|.*_msgs$", name)}
    assert ros <= {"rosbags"}, "rosbags reads recordings and needs no ROS"


@pytest.mark.parametrize("package", [*PACKAGES, "spinemat_bringup"])
def test_packages_import_only_what_they_may_and_declare(package: str) -> None:
    found = imports(package)
    ours = {name for name in found if name.split("_")[0] == "spinemat"}
    if package != "spinemat_bringup":
        assert ours <= ALLOWED.get(package, SHARED), "node packages meet in messages only"
    manifest = (REPOSITORY / "src" / package / "package.xml").read_text()
    declared = set(re.findall(r"depend>([\w-]+)</", manifest))
    declared |= {"builtin_interfaces", "rcl_interfaces"}  # come with rclpy
    ros = {name for name in found if re.match("rclpy$|ament_|.*_(msgs|interfaces)$", name)}
    others = {f"python3-{KEYS[name]}" for name in found & KEYS.keys()}
    assert ours | ros | others <= declared


def test_the_package_with_the_launch_files_declares_what_runs_them() -> None:
    manifest = (REPOSITORY / "src/spinemat_bringup/package.xml").read_text()
    assert {"launch", "launch_ros", "ros2launch"} <= set(re.findall(r"depend>(\w+)</", manifest))


# --- The requirements ----------------------------------------------------------------------------


def test_the_lock_holds_every_requirement_and_no_address() -> None:
    def name(requirement: str) -> str:
        found = re.match(r"[A-Za-z0-9._-]+", requirement)
        assert found, requirement
        return re.sub(r"[-_.]+", "-", found.group()).lower()

    lines = {
        file: [
            line
            for line in (REPOSITORY / file).read_text().splitlines()
            if line and line[0] not in " #"
        ]
        for file in ("requirements.in", "requirements.lock")
    }
    assert all("==" in line for line in lines["requirements.lock"])
    assert {name(line) for line in lines["requirements.in"]} <= {
        name(line) for line in lines["requirements.lock"]
    }
    assert "://" not in (REPOSITORY / "requirements.lock").read_text()
