# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent under its systemd unit, on a machine whose only WireGuard is a kernel module that is not loaded.

Only for a disposable machine: it installs the unit and unloads the module.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_server import RedisServer
from tests.supervisor_support import AGENT_PASSWORD, committing

pytestmark = [
    pytest.mark.wireguard,
    pytest.mark.kernel_wireguard,
    pytest.mark.skipif("JAYWALK_DISPOSABLE" not in os.environ, reason="only inside of make test-kernel"),
]
ROOT = Path(__file__).parents[2]
UNIT = "jaywalk-agent@zone-blue"
UNIT_FILES = Path("/etc/systemd/system")


@pytest.fixture
def without_userspace() -> Path:
    """Return a PATH without a userspace WireGuard; not in /tmp, since the unit has its own."""
    folder = Path("/opt/without-userspace")
    folder.mkdir()
    for tool in ("cat", "ip", "modprobe", "systemctl", "systemd-run", "tee", "wg"):
        (folder / tool).symlink_to(str(shutil.which(tool)))
    return folder


@pytest.fixture
def unit(redis_server: RedisServer, without_userspace: Path) -> Iterator[str]:
    """Install the agent's unit as the role does, with a controller on this machine."""
    python = ":".join(str(ROOT / part) for part in ("plugins/module_utils", "agent"))
    command = Path("/usr/local/bin/jaywalk")
    command.write_text(
        f"#!/bin/sh\nPYTHONPATH={python} exec {sys.executable} -c"
        ' "from jaywalk_agent.cli.main import main; raise SystemExit(main())" "$@"\n'
    )
    command.chmod(0o755)
    shutil.copy(ROOT / "roles/agent/files/jaywalk-agent@.service", UNIT_FILES)
    run("useradd", "--system", "--no-create-home", "jaywalk")
    run("install", "-d", "-m", "750", "-g", "jaywalk", "/etc/jaywalk")
    Path("/etc/jaywalk/key").write_text(run("wg", "genkey"))
    run("chown", "jaywalk:", "/etc/jaywalk/key")
    Path("/etc/jaywalk/zone-blue.env").write_text(
        f"PATH={without_userspace}\nJAYWALK_ZONE=zone-blue\nJAYWALK_LOCAL_ENDPOINT_IP=192.0.2.10\n"
        f"JAYWALK_CONTROLLER={redis_server.host}:{redis_server.port}\n"
        f"JAYWALK_CONTROLLER_PASSWD={AGENT_PASSWORD}\nJAYWALK_PRIVATE_KEY_FILE=/etc/jaywalk/key\n"
    )
    run("systemctl", "daemon-reload")
    with committing(redis_server.address):
        yield UNIT
        run("systemctl", "stop", UNIT)
    run("ip", "link", "delete", "wg0")
    run("userdel", "jaywalk")


def run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stdout}{done.stderr}{journal()}"
    return done.stdout


def journal() -> str:
    command = ["journalctl", "--no-pager", "--lines", "20", "--unit", UNIT]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def link() -> tuple[str, int]:
    (shown,) = json.loads(run("ip", "-json", "-details", "link", "show", "dev", "wg0"))
    return shown["linkinfo"]["info_kind"], shown["ifindex"]


def test_the_hardened_unit_loads_the_module_and_creates_the_interface_which_stays(unit: str) -> None:
    subprocess.run(["modprobe", "--remove", "wireguard"], check=True)
    run("systemctl", "start", unit)
    kind, index = link()
    assert kind == "wireguard"
    run("systemctl", "restart", unit)
    run("systemctl", "kill", "--signal", "KILL", unit)
    assert link() == ("wireguard", index)
    assert "10.20.0.1/20" in run("ip", "address", "show", "dev", "wg0")
