# SPDX-License-Identifier: GPL-3.0-or-later
"""The choice of mutants, and a table of the tests that detected each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from .listed import MUTANTS

CAUGHT = "caught by"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("mutants")
    group.addoption("--all-mutants", action="store_true", help="all mutants, not only the quick ones")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose all mutants with their chaos rounds, or by default the quick ones without chaos."""
    if "mutant" in metafunc.fixturenames:
        everything = metafunc.config.getoption("--all-mutants", False)
        quick = [replace(each, chaos=None) for each in MUTANTS if each.quick]
        chosen = MUTANTS if everything else quick
        metafunc.parametrize("mutant", chosen, ids=[each.name for each in chosen])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = []
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        facts = dict(report.user_properties)
        if report.when == "call" and "mutant" in facts:
            rows.append((facts["mutant"], f"{report.duration:.0f} s", facts.get(CAUGHT, "SURVIVED")))
    if not rows:
        return
    widest = max(len(str(name)) for name, *_ in rows)
    terminalreporter.section("mutants, and the tests that caught each")
    for name, seconds, caught in rows:
        terminalreporter.write_line(f"{name:{widest}} {seconds:>6}  {caught}")
    survived = sum(caught == "SURVIVED" for *_, caught in rows)
    terminalreporter.write_line(f"{len(rows)} mutants, {len(rows) - survived} caught, {survived} survived")
