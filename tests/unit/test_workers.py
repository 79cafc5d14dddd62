# SPDX-License-Identifier: GPL-3.0-or-later
"""Distribution of the fleet tests by `make test`: own labs, and two fleets of about the same duration."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.workers import FLEET_FOLDERS, OWN_LAB, SECOND_FLEET, group_of

ROOT = Path(__file__).parents[2]


def test_each_fleet_test_file_has_its_own_lab_or_is_in_one_of_two_fleets() -> None:
    found = [path for folder in FLEET_FOLDERS for path in (ROOT / folder).glob("**/test_*.py")]
    files = [str(path.relative_to(ROOT)) for path in found]
    groups = Counter(map(group_of, files))
    assert {group: count for group, count in groups.items() if count > 1} == {
        "tests/fleet": len(files) - len(OWN_LAB) - len(SECOND_FLEET),
        "tests/fleet, second": len(SECOND_FLEET),
    }
    assert groups.keys() >= {f"tests/fleet/{name}.py" for name in OWN_LAB}


def test_every_other_file_is_a_group_by_itself() -> None:
    assert group_of("tests/unit/test_workers.py") == "tests/unit/test_workers.py"
