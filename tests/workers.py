# SPDX-License-Identifier: GPL-3.0-or-later
"""Distribution of all tests to the workers of `make test`, and its progress messages."""

from __future__ import annotations

from pathlib import PurePath

import pytest
from xdist.scheduler import LoadScopeScheduling

# Folders of tests on machines of the lab.
FLEET_FOLDERS = ("tests/fleet/", "tests/attacks/fleet/")
# Files of these that boot their own machines; all others share a fleet, and so a worker.
OWN_LAB = ("test_lab", "test_nat", "test_nat_sites", "test_upgrade")
# Files with about half of the time of all that share a fleet: these share a second one.
SECOND_FLEET = ("test_rollout", "test_leave", "test_troubleshooting")


class ByFile(LoadScopeScheduling):
    """Keeps the tests of a file, and those of one fleet, on one worker and in order.

    With --all-mutants, each mutant is distributed by itself.
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith("tests/mutants/") and self.config.getoption("--all-mutants", False):
            return nodeid
        return group_of(nodeid.partition("::")[0])


def group_of(file: str) -> str:
    """Return the group of a file's tests; all tests of a group run on one worker."""
    name = PurePath(file).stem
    if not file.startswith(FLEET_FOLDERS) or name in OWN_LAB:
        return file
    return "tests/fleet, second" if name in SECOND_FLEET else "tests/fleet"


class Progress:
    """Prints each file as its first test begins, and each test as it fails."""

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self._reporter = reporter
        self._files: set[str] = set()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        file = nodeid.partition("::")[0]
        if file not in self._files:
            self._files.add(file)
            self._reporter.write(f"\n{file}\n", flush=True)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._reporter.write(f"\nFAILED {report.nodeid} ({report.when})\n", flush=True)
