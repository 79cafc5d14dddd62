# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests detect a supervisor with one changed line: these are the tests of the tests."""

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
from .mutant import Chaos, Mutant, OutdatedMutant
from .outcomes import DETECTED
from .trees import ROOT, InnerTests, Tree

MIN_MUTANTS = 25
Passing = Callable[[Mutant], None]
CopyTree = Callable[[], Tree]


def test_each_mutant_of_the_list_fits_the_code_as_it_is() -> None:
    """Each old text occurs once and in one line, so that no change of the code disables a mutant."""
    outdated = []
    for mutant in MUTANTS:
        try:
            mutant.text(ROOT)
        except OutdatedMutant as error:
            outdated.append(str(error))
        missing = [test for test in mutant.tests if not _exists(test)]
        outdated += [f"{mutant.name}: there is no test {test}" for test in missing]
        if not mutant.tests and mutant.chaos is None:
            outdated.append(f"{mutant.name}: no test and no chaos round is named")
    assert not outdated, "\n".join(outdated)
    names = Counter(mutant.name for mutant in MUTANTS)
    assert [name for name, count in names.items() if count > 1] == []
    assert len(MUTANTS) >= MIN_MUTANTS


def _exists(test: str) -> bool:
    file, _, name = test.partition("::")
    return (ROOT / file).is_file() and name.partition("[")[0].replace("::", ".") in _tests_of(ROOT / file)


@cache
def _tests_of(file: Path) -> frozenset[str]:
    body = ast.parse(file.read_text(encoding="utf-8")).body
    found = {each.name for each in body if isinstance(each, ast.FunctionDef)}
    # Hypothesis' state machines have assigned names.
    assigned = {ast.unparse(each.targets[0]) for each in body if isinstance(each, ast.Assign)}
    return frozenset(found | {f"{name}.runTest" for name in assigned})


@pytest.fixture(scope="module")
def copy_tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CopyTree]:
    """Return a function that copies the tree, so that no compiled file of one mutant serves another.

    The first copy stays unchanged, and the others are copies of it.
    """
    copies: list[Tree] = []

    def make() -> Tree:
        folder = tmp_path_factory.mktemp("mutant") / "tree"
        copies.append(Tree(folder, copies[0].folder) if copies else Tree(folder))
        return copies[-1]

    yield make
    for tree in copies:
        if tree.folder.exists():
            tree.remove()


@pytest.fixture(scope="module")
def passing(request: pytest.FixtureRequest, copy_tree: CopyTree) -> Passing:
    """Return a check that a mutant's tests pass on the unchanged tree; each test runs once for it."""
    chosen = [
        item.callspec.params["mutant"]
        for item in request.session.items
        if hasattr(item, "callspec") and "mutant" in item.callspec.params
    ]
    unchanged = copy_tree()
    tests = sorted({test for mutant in chosen for test in mutant.tests})
    units = unchanged.test(tests) if tests else None

    @cache
    def round_passes(chaos: Chaos) -> InnerTests:
        return unchanged.test(chaos.arguments(0))

    def check(mutant: Mutant) -> None:
        for test in mutant.tests:
            assert units is not None
            assert units.passed(test), f"{test} fails on the unchanged tree: {units.of(test)}\n{units.output}"
        if mutant.chaos is not None:
            rounds = round_passes(mutant.chaos)
            assert rounds.all_passed, f"{mutant.chaos} fails on the unchanged tree:\n{rounds.output}"

    return check


def test_a_broken_supervisor_is_caught(
    mutant: Mutant, passing: Passing, copy_tree: CopyTree, record_property: Callable[[str, object], None]
) -> None:
    record_property("mutant", mutant.name)
    passing(mutant)
    tree = copy_tree()
    try:
        mutant.apply(tree.folder)
        check_loads(tree, mutant)
        caught = [*caught_by_tests(tree, mutant), *caught_by_chaos(tree, mutant)]
    finally:
        tree.remove()
    record_property(CAUGHT, ", ".join(caught))


def check_loads(tree: Tree, mutant: Mutant) -> None:
    """Check that the mutant loads: every test detects one that does not."""
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
        assert any(each.outcome == DETECTED for each in found), (
            f"{mutant.name} survives {test}, although {mutant.broken}: {found}\n{inner.output}"
        )
        yield test.rpartition("/")[2]


def caught_by_chaos(tree: Tree, mutant: Mutant) -> Iterator[str]:
    """Yield the first of some consecutive seeds that catches the mutant, since timing also has an effect."""
    if mutant.chaos is None:
        return
    for number in range(mutant.chaos.rounds):
        inner = tree.test(mutant.chaos.arguments(number))
        if any(each.outcome == DETECTED for each in inner.outcomes.values()):
            yield f"{mutant.chaos}{f' + {number}' if number else ''}"
            return
        assert inner.all_passed, f"{mutant.chaos} neither passed nor detected {mutant.name}:\n{inner.output}"
    pytest.fail(f"{mutant.name} survives {mutant.chaos.rounds} rounds, although {mutant.broken}")
