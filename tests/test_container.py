"""The files of the container, as far as they can be checked without a Docker daemon."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
import yaml

from mats import ROOT

FOLDER = ROOT / "docker"
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
SERVICES = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]


def stages() -> dict[str, str]:
    parts = re.split(r"^FROM (\S+) AS (\w+)$", DOCKERFILE, flags=re.M)
    return {name: text for name, text in zip(parts[2::3], parts[3::3], strict=True)}


@pytest.mark.skipif(
    shutil.which("docker-compose") is None, reason="docker-compose is missing (apt: the same)"
)
def test_compose_accepts_its_file() -> None:
    line = ["docker-compose", "-f", str(FOLDER / "compose.yaml"), "config"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["services"].keys() == SERVICES.keys()


def test_services_build_stages_that_end_as_a_plain_user() -> None:
    for name, service in SERVICES.items():
        text = stages()[service["build"]["target"]]
        users = re.findall(r"^USER (\S+)$", text, re.M)
        assert users and users[-1] != "root", name


def test_who_uses_a_graphics_processor_is_in_the_groups_of_the_host() -> None:
    """By number: an image may know a group's name under another one, or not at all."""
    for name, service in SERVICES.items():
        groups = service.get("group_add", [])
        assert bool(groups) == ("devices" in service), name
        assert all(re.fullmatch(r"\$\{\w+_GID:-\d+\}", group) for group in groups), name


def test_layers_are_small_and_the_base_is_pinned() -> None:
    bases = [base for base in re.findall(r"^FROM (\S+)", DOCKERFILE, re.M) if base not in stages()]
    assert bases == ["ros:jazzy-ros-base"]
    installs = re.findall(r"^RUN apt-get.*?(?<!\\)\n", DOCKERFILE, re.M | re.S)
    assert len(installs) >= 3
    for words in installs:
        assert "--no-install-recommends" in words and "rm -rf /var/lib/apt/lists/*" in words
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".venv", "build", "install", ".git"} <= set(ignored)


def test_what_is_copied_and_launched_exists() -> None:
    for source in re.findall(r"^COPY --chmod=\d+ (\S+) ", DOCKERFILE, re.M):
        assert (ROOT / source).is_file()
    commands = DOCKERFILE + (FOLDER / "compose.yaml").read_text()
    files = set(re.findall(r"\w+\.launch\.py", commands))
    assert files and all((ROOT / "launch" / name).is_file() for name in files)
    entry = subprocess.run(["bash", "-n", str(FOLDER / "entrypoint.sh")], check=False)
    assert entry.returncode == 0
