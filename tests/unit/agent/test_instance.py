# SPDX-License-Identifier: GPL-3.0-or-later
"""The mark by which a machine is told from another with the same key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jaywalk_agent import instance
from jaywalk_agent.instance import own_instance


def test_stays_and_is_another_elsewhere(tmp_path: Path) -> None:
    here = own_instance(tmp_path / "here")
    assert re.fullmatch("[0-9a-f]{8}", here)
    assert own_instance(tmp_path / "here") == here
    assert own_instance(tmp_path / "there") != here


def test_a_clone_on_other_hardware_has_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = []
    for number in ("4c4c4544-0001", "4c4c4544-0002"):
        (tmp_path / number).write_text(number + "\n")
        monkeypatch.setattr(instance, "HARDWARE", tmp_path / number)
        marks.append(own_instance(tmp_path / "disk"))
    assert marks[0] != marks[1]


def test_a_disk_that_takes_nothing_ends_no_agent(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert re.fullmatch("[0-9a-f]{8}", own_instance(tmp_path / "file" / "below"))
