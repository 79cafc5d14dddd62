# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures and hooks of all tests: a real Redis, network namespaces, the run, hypothesis."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests import runs
from tests.netns import Namespace, kernel_has_wireguard
from tests.redis_server import RedisServer

if TYPE_CHECKING:
    from tests.fleet.fleet import Fleet

# The time of an example depends more on this machine's load than on the code.
settings.register_profile("jaywalk", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("jaywalk")


RUN = runs.Run()

# Supervisors of the tests make their key pair here, and not in the folder of this machine's own supervisor.
KEY_FOLDER = tempfile.TemporaryDirectory(prefix="jwl-key-")
os.environ["JAYWALK_SUPERVISOR_KEY_FILE"] = f"{KEY_FOLDER.name}/supervisor.key"


def pytest_configure(config: pytest.Config) -> None:
    """Begin this run; a worker is part of its controller's."""
    if runs.begins_here(worker=hasattr(config, "workerinput")):
        RUN.begin()


def pytest_report_header() -> list[str]:
    """Report what a killed run had left and this one has removed."""
    return [f"left by a killed run and removed now: {remains}" for remains in RUN.removed]


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what this run left, and report what that was."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    for remains in RUN.end():
        if reporter is not None:
            reporter.write_line(f"left by the tests and removed now: {remains}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Distribute the tests to several workers; the virtual machine has no xdist."""
    from tests import workers

    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None:
        config.pluginmanager.register(workers.Progress(reporter))
    return workers.ByFile(config, log)


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """This test's own Redis."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def namespace() -> Iterator[Callable[[str], Namespace]]:
    """Create network namespaces with the given names plus our process id; remove them after the test."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(Namespace(f"{name}-{os.getpid()}"))


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """A controller and three members, rolled out once per process; see :func:`rolled_out_fleet`."""
    from tests.fleet.fleet import rolled_out_fleet  # the virtual machine has no lab

    with rolled_out_fleet() as made:
        yield made


@pytest.fixture
def no_kernel_wireguard() -> None:
    """Skip a test of a kernel without WireGuard where the kernel has it."""
    if kernel_has_wireguard():
        pytest.skip("this kernel has WireGuard")
