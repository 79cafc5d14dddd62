# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests share: a real Redis, network namespaces, and a calm hypothesis."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import runs
from tests.netns import Namespace, kernel_has_wireguard
from tests.redis_server import RedisServer

# How fast an example runs says more about this machine's other work than about the code.
settings.register_profile("jaywalk", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("jaywalk")


RUN = runs.Run()


def pytest_configure(config: pytest.Config) -> None:
    """Begins this run; workers are part of their controller's."""
    if runs.is_wanted(worker=hasattr(config, "workerinput")):
        RUN.begin()


def pytest_report_header() -> list[str]:
    """What a run before this one left, and was cleared as this one began."""
    return [f"left by a run that was killed, and cleared now: {each}" for each in RUN.found]


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Clears what this run left, and says what that was."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    for each in RUN.end():
        if reporter is not None:
            reporter.write_line(f"left by the tests, and cleared now: {each}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Only where xdist is, and several workers are asked for: the virtual machine has none."""
    from tests import workers

    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None:
        config.pluginmanager.register(workers.Progress(reporter))
    return workers.ByFile(config, log)


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis of its own for this test."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def namespace() -> Iterator[Callable[[str], Namespace]]:
    """Makes network namespaces with the given names, unique a process, and removes them after the test."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(Namespace(f"{name}-{os.getpid()}"))


@pytest.fixture
def no_kernel_wireguard() -> None:
    """For a test of what happens where the kernel has no WireGuard."""
    if kernel_has_wireguard():
        pytest.skip("this kernel has WireGuard")
