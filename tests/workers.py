# SPDX-License-Identifier: GPL-3.0-or-later
"""How `make test` deals all tests out to a few processes, and what it shows of them meanwhile."""

from __future__ import annotations

from pathlib import PurePath

import pytest
from xdist.scheduler import LoadScopeScheduling

LABS_OF_THEIR_OWN = ("test_lab", "test_nat", "test_nat_sites")
"""Files of tests/fleet that boot their own machines; all others share a fleet, and so a worker."""
SECOND_FLEET = ("test_rollout", "test_leave", "test_troubleshooting")
"""Files that take about half of the time of all that share a fleet: they share another one than the rest."""


class ByFile(LoadScopeScheduling):
    """A file's tests stay together and in order, and those of one fleet do.

    Where all mutants are asked for, each of them is one of its own.
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith("tests/mutants/") and self.config.getoption("--all-mutants", False):
            return nodeid
        return unit_of(nodeid.partition("::")[0])


def unit_of(file: str) -> str:
    """What the tests of a file are dealt out with: all with the same word go to one worker."""
    name = PurePath(file).stem
    if not file.startswith("tests/fleet/") or name in LABS_OF_THEIR_OWN:
        return file
    return "tests/fleet, second" if name in SECOND_FLEET else "tests/fleet"


class Progress:
    """Names each file as its first test begins, and each test as it fails."""

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self._reporter = reporter
        self._begun: set[str] = set()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        file = nodeid.partition("::")[0]
        if file not in self._begun:
            self._begun.add(file)
            self._reporter.write(f"\n{file}\n", flush=True)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._reporter.write(f"\nFAILED {report.nodeid} ({report.when})\n", flush=True)
