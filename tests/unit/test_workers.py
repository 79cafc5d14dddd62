# SPDX-License-Identifier: GPL-3.0-or-later
"""How `make test` deals the fleet tests out: labs of their own, and two fleets of about the same length."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.workers import LABS_OF_THEIR_OWN, SECOND_FLEET, unit_of

ROOT = Path(__file__).parents[2]


def test_each_file_of_the_fleet_is_in_a_lab_of_its_own_or_in_one_of_two_fleets() -> None:
    files = [str(path.relative_to(ROOT)) for path in ROOT.glob("tests/fleet/**/test_*.py")]
    dealt = Counter(map(unit_of, files))
    assert {unit: count for unit, count in dealt.items() if count > 1} == {
        "tests/fleet": len(files) - len(LABS_OF_THEIR_OWN) - len(SECOND_FLEET),
        "tests/fleet, second": len(SECOND_FLEET),
    }
    assert dealt.keys() >= {f"tests/fleet/{name}.py" for name in LABS_OF_THEIR_OWN}


def test_all_other_files_are_dealt_out_one_by_one() -> None:
    assert unit_of("tests/unit/test_workers.py") == "tests/unit/test_workers.py"
