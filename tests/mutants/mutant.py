# SPDX-License-Identifier: GPL-3.0-or-later
"""One supervisor that is broken on purpose, in one line, and the tests that must see it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

SUPERVISOR = "supervisor/jaywalk_supervisor"
LIBRARY = "plugins/module_utils/jaywalk"


class RottenMutant(Exception):
    """A mutant no longer fits the code: the list is to be mended, not the code."""


@dataclass(frozen=True)
class Chaos:
    """A round of chaos that must fail; ``rounds`` seeds in a row may be tried, since chance decides too."""

    seed: int
    kind: str = "single"
    rounds: int = 3

    def __str__(self) -> str:
        return f"chaos {self.kind}, seed {self.seed}"

    def words(self, number: int) -> tuple[str, ...]:
        """What pytest is told for the ``number``-th round, from 0 on."""
        return ("tests/chaos/test_chaos.py", "--seed", str(self.seed + number), "--kind", self.kind)


@dataclass(frozen=True)
class Mutant:
    """``old`` occurs once in ``file`` and becomes ``new``, which changes, adds or removes one line.

    ``broken`` says in one sentence what is wrong then.  Each test of ``tests`` must fail (a node id; for one
    of its parameters if it names none), and the round of ``chaos``, if there is one.  A ``quick`` mutant is
    one of the few among all tests.
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
        """The mutated text of the file below ``root``; raises ``RottenMutant``."""
        path = root / self.file
        if not path.is_file():
            raise RottenMutant(f"{self.name}: there is no file {self.file}")
        before = path.read_text(encoding="utf-8")
        if (count := before.count(self.old)) != 1:
            raise RottenMutant(f"{self.name}: its old text occurs {count} times in {self.file}, and not once")
        after = before.replace(self.old, self.new)
        changed = [line[0] for line in difflib.ndiff(before.splitlines(), after.splitlines())]
        if max(changed.count("-"), changed.count("+")) != 1:
            raise RottenMutant(f"{self.name}: it changes {self.file} in more than one line, or not at all")
        return after

    def apply(self, root: Path) -> None:
        """Breaks the tree below ``root``, a copy; raises ``RottenMutant``."""
        (root / self.file).write_text(self.text(root), encoding="utf-8")


def of(file: str, *names: str) -> tuple[str, ...]:
    """The node ids of the tests ``names`` in ``file``, a path below ``tests``."""
    return tuple(f"tests/{file}::{name}" for name in names)
