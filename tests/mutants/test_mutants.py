# SPDX-License-Identifier: GPL-3.0-or-later
"""A supervisor that is broken in one line is noticed: who judges the product is judged here."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.redis_server import RedisServer

from .conftest import CAUGHT
from .listed import MUTANTS
from .mutant import Chaos, Mutant, RottenMutant
from .outcomes import JUDGED
from .trees import ROOT, InnerTests, Tree

LEAST = 25
Passing = Callable[[Mutant], None]
Grow = Callable[[], Tree]


def test_each_mutant_of_the_list_fits_the_code_as_it_is() -> None:
    """Once and in one line: so a change of the code that a mutant is about does not lose that mutant."""
    rotten = []
    for mutant in MUTANTS:
        try:
            mutant.text(ROOT)
        except RottenMutant as error:
            rotten.append(str(error))
        missing = [test for test in mutant.tests if not _exists(test)]
        rotten += [f"{mutant.name}: there is no test {test}" for test in missing]
        if not mutant.tests and mutant.chaos is None:
            rotten.append(f"{mutant.name}: nothing is said to catch it")
    assert not rotten, "\n".join(rotten)
    names = Counter(mutant.name for mutant in MUTANTS)
    assert [name for name, count in names.items() if count > 1] == []
    assert len(MUTANTS) >= LEAST


def _exists(test: str) -> bool:
    file, _, name = test.partition("::")
    return (ROOT / file).is_file() and name.partition("[")[0].replace("::", ".") in _tests_of(ROOT / file)


@cache
def _tests_of(file: Path) -> frozenset[str]:
    body = ast.parse(file.read_text(encoding="utf-8")).body
    found = {each.name for each in body if isinstance(each, ast.FunctionDef)}
    # What hypothesis' state machines are called by: a name that is assigned.
    assigned = {ast.unparse(each.targets[0]) for each in body if isinstance(each, ast.Assign)}
    return frozenset(found | {f"{name}.runTest" for name in assigned})


@pytest.fixture(scope="module")
def grow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grow]:
    """Makes copies of the tree, each of its own, so that no file compiled for one serves another.

    The first one stays as it is, and the others are copies of that.
    """
    grown: list[Tree] = []

    def make() -> Tree:
        folder = tmp_path_factory.mktemp("mutant") / "tree"
        grown.append(Tree(folder, grown[0].folder) if grown else Tree(folder))
        return grown[-1]

    yield make
    for tree in grown:
        if tree.folder.exists():
            tree.remove()


@pytest.fixture(scope="module")
def passing(request: pytest.FixtureRequest, grow: Grow) -> Passing:
    """Checks that what is to catch a mutant passes where nothing is broken; each test runs once for that."""
    chosen = [
        item.callspec.params["mutant"]
        for item in request.session.items
        if hasattr(item, "callspec") and "mutant" in item.callspec.params
    ]
    healthy = grow()
    tests = sorted({test for mutant in chosen for test in mutant.tests})
    units = healthy.test(tests) if tests else None

    @cache
    def round_passes(chaos: Chaos) -> InnerTests:
        return healthy.test(chaos.words(0))

    def check(mutant: Mutant) -> None:
        for test in mutant.tests:
            assert units is not None
            assert units.passed(test), f"{test} fails where nothing is broken: {units.of(test)}\n{units.said}"
        if mutant.chaos is not None:
            rounds = round_passes(mutant.chaos)
            assert rounds.all_passed, f"{mutant.chaos} fails where nothing is broken:\n{rounds.said}"

    return check


def test_a_broken_supervisor_is_caught(
    mutant: Mutant, passing: Passing, grow: Grow, record_property: Callable[[str, object], None]
) -> None:
    record_property("mutant", mutant.name)
    passing(mutant)
    tree = grow()
    try:
        mutant.apply(tree.folder)
        check_loads(tree, mutant)
        caught = [*caught_by_tests(tree, mutant), *caught_by_chaos(tree, mutant)]
    finally:
        tree.remove()
    record_property(CAUGHT, ", ".join(caught))


def check_loads(tree: Tree, mutant: Mutant) -> None:
    """A mutant that does not even load says nothing about those who catch it."""
    if mutant.file.endswith(".lua"):
        with RedisServer() as server, server.client() as client:
            client.script_load((tree.folder / mutant.file).read_text(encoding="utf-8"))
    else:
        tree.check_imports(mutant.file)


def caught_by_tests(tree: Tree, mutant: Mutant) -> Iterator[str]:
    if not mutant.tests:
        return
    inner = tree.test(mutant.tests)
    for test in mutant.tests:
        found = inner.of(test)
        assert any(each.outcome == JUDGED for each in found), (
            f"{mutant.name} survives {test}, although {mutant.broken}: {found}\n{inner.said}"
        )
        yield test.rpartition("/")[2]


def caught_by_chaos(tree: Tree, mutant: Mutant) -> Iterator[str]:
    """Chance has its part in a round: the first of some seeds in a row that catches the mutant is enough."""
    if mutant.chaos is None:
        return
    for number in range(mutant.chaos.rounds):
        inner = tree.test(mutant.chaos.words(number))
        if any(each.outcome == JUDGED for each in inner.outcomes.values()):
            yield f"{mutant.chaos}{f' + {number}' if number else ''}"
            return
        assert inner.all_passed, f"{mutant.chaos} neither passed nor judged {mutant.name}:\n{inner.said}"
    pytest.fail(f"{mutant.name} survives {mutant.chaos.rounds} rounds, although {mutant.broken}")
