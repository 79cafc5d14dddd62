# SPDX-License-Identifier: GPL-3.0-or-later
"""A plugin for the pytest that runs on a mutant: tells a test that judged from one that merely crashed."""

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
FILE = "JAYWALK_MUTANT_OUTCOMES"
"""The environment's variable that names the file to which outcomes are written, a line each."""
PASSED, JUDGED, CRASHED, SKIPPED = "passed", "judged", "crashed", "skipped"
JUDGEMENTS = (AssertionError, pytest.fail.Exception, JaywalkError)
"""What a test raises that saw something wrong: its own word, or the product's refusal of what must pass.
So does all that its own lines raise, such as a look at the first address of a refusal."""


@dataclass(frozen=True)
class Outcome:
    """What a test came to, and the first line of why."""

    outcome: str
    why: str = ""

    @classmethod
    def from_line(cls, data: Mapping[str, str]) -> tuple[str, Outcome]:
        return data["test"], cls(data["outcome"], data["why"])


def pytest_configure() -> None:
    """The first example that fails will do: to look for a smaller one takes minutes."""
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
    why = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    judged = _judges(error) or call.excinfo.traceback[-1].path == item.path
    return Outcome(JUDGED if report.when == "call" and judged else CRASHED, why)


def _judges(error: BaseException) -> bool:
    """Whether all that was raised is a judgement; hypothesis raises several at once."""
    if isinstance(error, BaseExceptionGroup):
        return all(_judges(each) for each in error.exceptions)
    return isinstance(error, JUDGEMENTS)
