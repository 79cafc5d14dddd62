# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from lab.errors import LabError
from lab.records import Interface, LabSpec, MachineSpec, Running, write_atomically


def test_a_machine_is_read_as_it_was_written(tmp_path: Path) -> None:
    spec = MachineSpec("node1", "jw", "/base", (Interface("br1", "10.99.0.10/24", "10.99.0.1"),), cut=True)
    spec.save(tmp_path)
    assert MachineSpec.load(tmp_path) == spec


def test_a_lab_and_a_running_machine_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert LabSpec.load(tmp_path) is None
    assert Running.load(tmp_path) is None
    lab, running = LabSpec("jw", "10.99.0.0/24", "/base"), Running(42, 3, ("/a", "/b"))
    lab.save(tmp_path)
    running.save(tmp_path)
    assert LabSpec.load(tmp_path) == lab
    assert Running.load(tmp_path) == running


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "lab.json").write_text(text)
    with pytest.raises(LabError, match=r"lab\.json"):
        LabSpec.load(tmp_path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old", 0o600)
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_text() == "old"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
