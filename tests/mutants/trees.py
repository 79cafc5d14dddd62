# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of this tree, and pytest in them; the tree itself stays unchanged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import processes

from .outcomes import FILE, PASSED, PLUGIN, Outcome

ROOT = Path(__file__).parents[2]
PARTS = ("plugins/module_utils", "agent", "supervisor", ".")
NOT_COPIED = (".git", "build", "output", "docs", "roles", "__pycache__", "*.pyc")
# The time limit for all tests of one run inside, on an idle host.
RUN_SECONDS = 240.0
# The time limit for events that take a few seconds, and on a mutant may never occur.
WAIT_SECONDS = 8


@dataclass(frozen=True)
class InnerTests:
    """The outcomes of the tests of one run by their node ids, and pytest's output."""

    outcomes: Mapping[str, Outcome]
    output: str

    def of(self, test: str) -> list[Outcome]:
        """Return the outcomes of ``test``, for each of its parameters."""
        return [
            outcome for name, outcome in self.outcomes.items() if name == test or name.startswith(f"{test}[")
        ]

    @property
    def all_passed(self) -> bool:
        """Return whether there were tests, and all of them passed."""
        return bool(self.outcomes) and all(each.outcome == PASSED for each in self.outcomes.values())

    def passed(self, test: str) -> bool:
        found = self.of(test)
        return bool(found) and all(each.outcome == PASSED for each in found)


class Tree:
    """A copy of the tree in ``folder``, or of another copy, which edits during a run do not affect."""

    def __init__(self, folder: Path, of: Path = ROOT) -> None:
        self.folder = folder
        shutil.copytree(of, folder, symlinks=True, ignore=shutil.ignore_patterns(*NOT_COPIED))

    def remove(self) -> None:
        shutil.rmtree(self.folder)

    def check_imports(self, file: str) -> None:
        """Fail if a Python module of the tree cannot be imported or uses undefined names."""
        ruff = [
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--isolated",
            "--quiet",
            "--select",
            "E9,F821",
            file,
        ]
        done = self._run(ruff)
        assert not done.returncode, f"the mutated {file} is invalid:\n{done.stdout}"
        part = next(part for part in PARTS if file.startswith(f"{part}/"))
        module = file.removeprefix(f"{part}/").removesuffix(".py").replace("/", ".")
        done = self._run([sys.executable, "-c", f"import {module}"])
        assert not done.returncode, f"the mutated {module} does not import:\n{done.stdout}"

    def test(self, arguments: Sequence[str]) -> InnerTests:
        """Run tests of the tree, and return their outcomes; raise ``TimeoutError``."""
        outcomes = self.folder / "outcomes.jsonl"
        outcomes.unlink(missing_ok=True)
        # The same examples in each run, so that all runs catch a mutant, or none.
        always = ["-q", "-p", PLUGIN, "--hypothesis-seed", "0"]
        done = self._run([sys.executable, "-m", "pytest", *always, *arguments], **{FILE: str(outcomes)})
        lines = outcomes.read_text(encoding="utf-8").splitlines() if outcomes.exists() else []
        return InnerTests(dict(Outcome.from_line(json.loads(line)) for line in lines), done.stdout)

    def _run(self, argv: Sequence[str], **more: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
        paths = os.pathsep.join(str(self.folder / part) for part in PARTS)
        more |= {"PYTHONPATH": paths, "JAYWALK_TEST_WAIT_SECONDS": str(WAIT_SECONDS)}
        return processes.run(argv, self.folder, environment | more, RUN_SECONDS)
