# SPDX-License-Identifier: GPL-3.0-or-later
"""Files in a supervisor's folder that are not its copies."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from jaywalk.controller.address import ControllerAddress
from jaywalk_supervisor.recovery.copy_folder import CopyFolder
from tests.waiting import eventually


def test_a_pipe_in_the_place_of_a_copy_is_put_aside_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    folder = CopyFolder(str(tmp_path), ControllerAddress("127.0.0.1", 6379))
    folder.path.mkdir(parents=True)
    os.mkfifo(folder.path / "zone-a.json")
    reader = threading.Thread(target=folder.zones, daemon=True)
    reader.start()
    eventually(lambda: not reader.is_alive(), "the folder is read")
    assert [path.name.rpartition("-")[0] for path in folder.path.iterdir()] == ["zone-a.json.unusable"]
