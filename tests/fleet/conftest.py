# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet of the tests in this folder: machines of the lab with the mesh, rolled out by the playbook."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import playbook_variables
from tests.fleet.fleet import MEMBERS, ROOT, Fleet
from tests.fleet.labs import lab_of_this_run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder: they need machines, and time."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.fleet)
            item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """A controller and three members, rolled out once per process.

    JAYWALK_FLEET_TEST_KEEP keeps them running after the tests.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    directory = Path(os.environ.get("JAYWALK_FLEET_TEST_DIR", "/var/tmp/jaywalk-fleet-test") + worker)
    prefix = os.environ.get("JAYWALK_FLEET_TEST_PREFIX", "jt")
    lab = lab_of_this_run(directory, prefix + worker)
    keep = "JAYWALK_FLEET_TEST_KEEP" in os.environ
    if not keep:
        lab.down()
    try:
        lab.up(["control", *MEMBERS])
        fleet = Fleet(
            lab, lab.write_inventory(directory / "inventory", variables=playbook_variables.variables(ROOT))
        )
        fleet.play()
        yield fleet
    finally:
        lab.close() if keep else lab.down()
