"""Fixtures that all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# The same examples in every run; `--hypothesis-profile=default` searches for new ones, and
# `-m fuzz --hypothesis-profile=full` is the whole fuzz of programmes, people and answers.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=150)
settings.register_profile("full", derandomize=True, deadline=None, max_examples=2000)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def ros_domain() -> Iterator[int]:
    """Give this run of the tests a DDS domain of its own, and check message fields."""
    domain = 1 + os.getpid() % 100
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(domain))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        patch.setenv("ROS_PYTHON_CHECK_FIELDS", "1")
        yield domain
