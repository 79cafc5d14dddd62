# SPDX-License-Identifier: GPL-3.0-or-later
"""A stolen controller writes into no terminal: neither an operator's nor that of a node's root."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jaywalk.zone.redis_keys import TOKENS, ZONES, ZoneKeys
from tests.attacks.installation import Installation
from tests.chaos.machines import ENVIRONMENT
from tests.faulty_server import faulty_server, sends

ESCAPE = "\x1b]0;owned\x07\x1b[2J\u202e"
COMMANDS = (("zone", "list"), ("zone", "show", "zone-blue"), ("token", "list"))


def test_a_record_of_a_stolen_controller_controls_no_terminal(
    own_installation: Installation,
) -> None:
    record = {"role": "read", "zone": ESCAPE, "digest": "0" * 64, "created": 1}
    with own_installation.server.client() as stolen:
        stolen.hset(TOKENS, f"name{ESCAPE}", json.dumps(record))
        stolen.sadd(ZONES, f"zone{ESCAPE}")
        stolen.hset(ZoneKeys("zone-blue").meta, "description", f"seen {ESCAPE}")
    for command in COMMANDS:
        done = own_installation.command(*command, check=False)
        shown = (done.stdout + done.stderr).replace("\n", "")
        assert shown.isprintable(), (command, shown)
        assert "Traceback" not in shown
    assert "seen " in own_installation.command("zone", "show", "zone-blue").stdout


@pytest.mark.parametrize("code", ["ERR", "NOPERM", "NOAUTH", "LOADING", "MISCONF"])
def test_an_error_of_a_stolen_controller_controls_no_terminal(tmp_path: Path, code: str) -> None:
    with faulty_server(sends(f"-{code} {ESCAPE}\r\n".encode())) as stolen:
        argv = [sys.executable, "-m", "jaywalk_agent.cli.main", "up", "--timeout", "1"]
        argv += ["--controller", f"{stolen.address.host}:{stolen.address.port}", "--controller-password", "x"]
        argv += ["--state-dir", str(tmp_path), "--private-key-file", str(tmp_path / "key")]
        done = subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "controller" in done.stderr
    assert (done.stdout + done.stderr).replace("\n", "").isprintable(), done.stderr
    assert "Traceback" not in done.stderr
