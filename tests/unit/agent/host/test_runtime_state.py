# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock of a zone, and the status file of its agent."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from jaywalk.core.errors import JaywalkError
from jaywalk_agent.host import runtime_state


def test_a_second_agent_of_the_zone_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "run" / "zone-blue.lock"
    first, second = runtime_state.only_one(lock, "zone-blue"), runtime_state.only_one(lock, "zone-blue")
    with first, pytest.raises(JaywalkError, match="jaywalk-agent@zone-blue"), second:
        pytest.fail("two agents hold one lock")
    with runtime_state.only_one(lock, "zone-blue"):
        pass


def test_a_lock_is_acquired_again_after_somebody_removed_its_file(tmp_path: Path) -> None:
    file = tmp_path / "run" / "zone-blue.lock"
    with runtime_state.only_one(file, "zone-blue") as lock:
        assert not lock.renew()
        shutil.rmtree(file.parent)
        assert not runtime_state.is_running(file)
        assert lock.renew()
        assert runtime_state.is_running(file)
        assert not lock.renew()
    assert not runtime_state.is_running(file)


def test_an_agent_whose_lock_another_one_acquired_meanwhile_gets_an_error(tmp_path: Path) -> None:
    file = tmp_path / "zone-blue.lock"
    with runtime_state.only_one(file, "zone-blue") as first:
        file.unlink()
        with (
            runtime_state.only_one(file, "zone-blue"),
            pytest.raises(JaywalkError, match="an agent of zone zone-blue runs"),
        ):
            first.renew()


def test_another_zone_has_another_lock(tmp_path: Path) -> None:
    with runtime_state.only_one(tmp_path / "a.lock", "a"), runtime_state.only_one(tmp_path / "b.lock", "b"):
        assert runtime_state.is_running(tmp_path / "a.lock")


def test_a_check_for_a_running_agent_does_not_prevent_a_start(tmp_path: Path) -> None:
    lock = tmp_path / "zone-blue.lock"
    assert not runtime_state.is_running(lock)
    lock.touch()
    with lock.open() as checking:
        fcntl.flock(checking, fcntl.LOCK_SH)
        threading.Timer(0.2, lambda: fcntl.flock(checking, fcntl.LOCK_UN)).start()
        with runtime_state.only_one(lock, "zone-blue"):
            assert runtime_state.is_running(lock)
    assert not runtime_state.is_running(lock)


def test_the_error_names_a_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lock = runtime_state.only_one(tmp_path / "file" / "zone.lock", "zone")
    with pytest.raises(JaywalkError, match=r"file/zone\.lock"), lock:
        pytest.fail("there is no lock to hold")


def test_the_report_is_read_back(tmp_path: Path) -> None:
    runtime_state.report(tmp_path / "status", "no route")
    report = runtime_state.Report.read(tmp_path / "status")
    assert report is not None
    assert (report.pid, report.trouble) == (os.getpid(), "no route")


def test_a_process_is_alive_until_it_ends() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    assert runtime_state.is_alive(child.pid)
    child.wait()
    assert not runtime_state.is_alive(child.pid)


@pytest.mark.parametrize("pid", [0, -1, 2**70, "1", None])
def test_an_invalid_process_id_is_not_alive(pid: Any) -> None:
    assert not runtime_state.is_alive(pid)


def test_a_process_of_another_user_is_alive() -> None:
    with mock.patch("os.kill", side_effect=PermissionError):
        assert runtime_state.is_alive(1)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pid": 1, "trouble": "", "since": 0, "more": 1}'])
def test_an_invalid_report_is_ignored(tmp_path: Path, content: str) -> None:
    (tmp_path / "status").write_text(content)
    assert runtime_state.Report.read(tmp_path / "status") is None


def test_a_report_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    runtime_state.report(tmp_path / "file" / "status", "trouble")
