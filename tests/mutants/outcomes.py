# SPDX-License-Identifier: GPL-3.0-or-later
"""A pytest plugin for runs on a mutant: it distinguishes tests that detect a defect from tests that crash."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings

from jaywalk.core.errors import JaywalkError

PLUGIN = "tests.mutants.outcomes"
# The environment variable with the file of the outcomes, one per line.
FILE = "JAYWALK_MUTANT_OUTCOMES"
PASSED, DETECTED, CRASHED, SKIPPED = "passed", "detected", "crashed", "skipped"
# A test that detects a defect raises one of these: an assertion, or the product's refusal of a valid request.
# Any error of the test's own lines counts too, such as access to the first address of a refusal.
DETECTIONS = (AssertionError, pytest.fail.Exception, JaywalkError)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a test, and the first line of its reason."""

    outcome: str
    reason: str = ""

    @classmethod
    def from_line(cls, data: Mapping[str, str]) -> tuple[str, Outcome]:
        return data["test"], cls(data["outcome"], data["reason"])


def pytest_configure() -> None:
    """Stop at the first example that fails, since the search for a smaller one takes minutes."""
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("mutants", settings.get_profile("jaywalk"), phases=phases, database=None)
    settings.load_profile("mutants")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" or not report.passed:
        outcome = asdict(_outcome(item, report, call))
        with Path(os.environ[FILE]).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"test": item.nodeid, **outcome}) + "\n")
    return report


def _outcome(item: pytest.Item, report: pytest.TestReport, call: pytest.CallInfo[Any]) -> Outcome:
    if not report.failed or call.excinfo is None:
        return Outcome(SKIPPED if report.skipped else PASSED)
    error = call.excinfo.value
    reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    detects = _detects(error) or call.excinfo.traceback[-1].path == item.path
    return Outcome(DETECTED if report.when == "call" and detects else CRASHED, reason)


def _detects(error: BaseException) -> bool:
    """Return whether all raised errors are detections; hypothesis raises several at once."""
    if isinstance(error, BaseExceptionGroup):
        return all(_detects(each) for each in error.exceptions)
    return isinstance(error, DETECTIONS)
