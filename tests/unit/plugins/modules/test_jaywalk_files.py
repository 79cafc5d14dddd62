# SPDX-License-Identifier: GPL-3.0-or-later
"""The module writes files and folders with their modes, shows each change; on a real disk."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.jaywalking.mesh.plugins.modules import jaywalk_files

from tests.ansible_modules import RunModule

# What this process may give to its own files.
OWN = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}


def wanted(folder: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = [
        {"path": f"{folder}/etc", "state": "directory", "mode": "0750"},
        {"path": f"{folder}/etc/zone.env", "content": "JAYWALK_ZONE=zone-blue\n", "mode": "0640"},
        {"path": f"{folder}/etc/zone.password", "content": "a-password\n", "mode": "0600"},
        {"path": f"{folder}/old.d", "state": "absent"},
    ]
    return [dict(entry, **OWN) for entry in entries]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "old.d").mkdir()
    (tmp_path / "old.d/netns.conf").write_text("[Unit]\n")
    return tmp_path


def test_all_is_written_in_one_run_and_a_second_run_changes_nothing(
    folder: Path, run_module: RunModule
) -> None:
    entries = wanted(folder)
    done = run_module(jaywalk_files, files=entries)
    assert done["written"] == [entry["path"] for entry in entries]
    assert (folder / "etc").stat().st_mode & 0o777 == 0o750
    assert (folder / "etc/zone.env").read_text() == "JAYWALK_ZONE=zone-blue\n"
    assert (folder / "etc/zone.password").read_text() == "a-password\n"
    assert (folder / "etc/zone.password").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in folder.rglob("*")) == ["etc", "zone.env", "zone.password"]
    inode = (folder / "etc/zone.env").stat().st_ino
    again = run_module(jaywalk_files, files=entries)
    assert (again["changed"], again["written"]) == (False, [])
    assert (folder / "etc/zone.env").stat().st_ino == inode


def test_check_mode_shows_what_a_run_writes_and_writes_nothing(folder: Path, run_module: RunModule) -> None:
    entries = wanted(folder)
    predicted = run_module(jaywalk_files, check=True, files=entries)
    assert sorted(path.name for path in folder.rglob("*")) == ["netns.conf", "old.d"]
    done = run_module(jaywalk_files, files=entries)
    assert predicted["written"] == done["written"]
    assert predicted["diff"] == done["diff"]


def test_the_diff_shows_contents_and_modes(folder: Path, run_module: RunModule) -> None:
    entries = wanted(folder)
    run_module(jaywalk_files, files=entries)
    entries[0]["mode"] = "0700"
    entries[1]["content"] = "JAYWALK_ZONE=zone-red\n"
    mode, settings = run_module(jaywalk_files, files=entries)["diff"]
    assert (mode["before"]["mode"], mode["after"]["mode"]) == ("0750", "0700")
    assert (settings["before"], settings["after"]) == ("JAYWALK_ZONE=zone-blue\n", "JAYWALK_ZONE=zone-red\n")
    assert settings["before_header"] == f"{folder}/etc/zone.env"


def test_a_link_is_replaced_and_what_it_points_to_stays(folder: Path, run_module: RunModule) -> None:
    (folder / "target").write_text("somebody's\n")
    (folder / "link").symlink_to(folder / "target")
    run_module(jaywalk_files, files=[{"path": f"{folder}/link", "content": "ours\n", **OWN}])
    assert (folder / "target").read_text() == "somebody's\n"
    assert not (folder / "link").is_symlink()
    assert (folder / "link").read_text() == "ours\n"


def test_a_group_that_the_play_creates_is_unknown_in_check_mode_only(
    folder: Path, run_module: RunModule
) -> None:
    entry = {"path": f"{folder}/old.d", "state": "directory", "owner": OWN["owner"], "group": "jaywalk-none"}
    assert run_module(jaywalk_files, check=True, files=[entry])["written"] == [entry["path"]]
    assert "jaywalk-none" in run_module(jaywalk_files, files=[entry])["msg"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"path": "missing/zone.env", "content": ""}, "No such file or directory"),
        ({"path": "old.d", "content": ""}, "Is a directory"),
        ({"path": "zone.env"}, "content"),
    ],
)
def test_what_cannot_be_written_fails_with_the_path_and_the_reason(
    folder: Path, run_module: RunModule, entry: dict[str, Any], message: str
) -> None:
    failed = run_module(jaywalk_files, files=[dict(entry, path=f"{folder}/{entry['path']}")])
    assert message in failed["msg"]
