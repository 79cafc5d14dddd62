# SPDX-License-Identifier: GPL-3.0-or-later
"""How `make test` deals all tests out to a few processes, and what it shows of them meanwhile."""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadScopeScheduling

LABS_OF_THEIR_OWN = ("test_lab", "test_nat", "test_streets")
"""Files of tests/fleet that boot their own machines; all others share one fleet, and so one worker."""


class ByFile(LoadScopeScheduling):
    """A file's tests stay together and in order, and those of the one fleet do.

    Where all mutants are asked for, each of them is one of its own.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if file.startswith("tests/mutants/") and self.config.getoption("--all-mutants", False):
            return nodeid
        if file.startswith("tests/fleet/") and not any(f"/{name}.py" in file for name in LABS_OF_THEIR_OWN):
            return "tests/fleet"
        return file


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
