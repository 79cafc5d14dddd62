# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/rest.md, run as it is written, but for the port and for systemd."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from tests.redis_server import RedisServer
from tests.supervisor_process import Process, password_file
from tests.supervisor_process import started as started
from tests.supervisor_support import COMMAND, IMPORTS, ROOT

PAGE = ROOT / "docs" / "rest.md"


def blocks() -> list[str]:
    """The shell commands of the page, without those that are for the machine's systemd."""
    found = re.findall(r"```shell\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [block for block in found if "systemctl" not in block]


def test_the_page_runs_as_written(redis_server: RedisServer, tmp_path: Path, started: list[Process]) -> None:
    streamer = {
        "JAYWALK_STREAMER_ADDRESS": f"127.0.0.1:{redis_server.port}",
        "JAYWALK_STREAMER_USER": "supervisor",
        "JAYWALK_STREAMER_PASSWD_FILE": password_file(tmp_path, redis_server.password),
    }
    served = Process(tmp_path, **streamer)
    started.append(served)
    served.told("READY=1")
    program = tmp_path / "jaywalk-supervisor"
    program.write_text(f"#!/bin/sh\nexec {COMMAND[0]} {COMMAND[1]} '{COMMAND[2]}' \"$@\"\n")
    program.chmod(0o755)

    lines = "shopt -s expand_aliases\nset -e\n" + "".join(blocks())
    done = subprocess.run(
        ["bash"],
        input=lines.replace("localhost:8080", f"localhost:{served.api}"),
        cwd=tmp_path,
        env={**os.environ, **streamer, "PYTHONPATH": IMPORTS, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"')]
    changes = [answer for answer in answers if "changed" in answer]
    assert [answer["changed"] for answer in changes] == [True] * 9 + [False], "no token has that id"
    assert changes[4]["lease"]["addresses"] == ["10.20.0.30"]
    assert [answer["message"] for answer in answers if "message" in answer] == ["peer not found"] * 2
    assert (tmp_path / "automation.token").stat().st_mode & 0o077 == 0
    assert (tmp_path / "automation.token").read_text().strip() not in served.log.read_text()
