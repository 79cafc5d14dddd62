# SPDX-License-Identifier: GPL-3.0-or-later
"""A supervisor with one changed line, and the tests that must detect it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

SUPERVISOR = "supervisor/jaywalk_supervisor"
LIBRARY = "plugins/module_utils/jaywalk"


class OutdatedMutant(Exception):
    """A mutant does not fit the code any more; correct the list, not the code."""


@dataclass(frozen=True)
class Chaos:
    """A chaos round that must fail, with up to ``rounds`` consecutive seeds, since timing has an effect."""

    seed: int
    kind: str = "single"
    rounds: int = 3

    def __str__(self) -> str:
        return f"chaos {self.kind}, seed {self.seed}"

    def arguments(self, number: int) -> tuple[str, ...]:
        """Return pytest's arguments for round ``number``, from 0."""
        return ("tests/chaos/test_chaos.py", "--seed", str(self.seed + number), "--kind", self.kind)


@dataclass(frozen=True)
class Mutant:
    """``old`` occurs once in ``file`` and becomes ``new``, which changes, adds or removes one line.

    ``broken`` describes the defect in one sentence. Each test of ``tests`` (a node id) must fail, for at
    least one of its parameters if the id has none, and so must the round of ``chaos``, if there is one.
    ``make test`` includes only ``quick`` mutants.
    """

    name: str
    file: str
    old: str
    new: str
    broken: str
    tests: tuple[str, ...] = ()
    chaos: Chaos | None = None
    quick: bool = False

    def text(self, root: Path) -> str:
        """Return the mutated text of the file below ``root``; raise ``OutdatedMutant``."""
        path = root / self.file
        if not path.is_file():
            raise OutdatedMutant(f"{self.name}: there is no file {self.file}")
        before = path.read_text(encoding="utf-8")
        if (count := before.count(self.old)) != 1:
            raise OutdatedMutant(f"{self.name}: its old text occurs {count} times in {self.file}, not once")
        after = before.replace(self.old, self.new)
        changed = [line[0] for line in difflib.ndiff(before.splitlines(), after.splitlines())]
        if max(changed.count("-"), changed.count("+")) != 1:
            raise OutdatedMutant(f"{self.name}: it changes {self.file} in more than one line, or not at all")
        return after

    def apply(self, root: Path) -> None:
        """Change the tree below ``root``, a copy; raise ``OutdatedMutant``."""
        (root / self.file).write_text(self.text(root), encoding="utf-8")


def of(file: str, *names: str) -> tuple[str, ...]:
    """Return the node ids of the tests ``names`` in ``file``, a path below ``tests``."""
    return tuple(f"tests/{file}::{name}" for name in names)
