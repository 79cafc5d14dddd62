# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules as the processes that Ansible makes of them, on two machines with one cable.

The targets try far more, through ansible-playbook, and take far longer.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.netns import Namespace, connect, kernel_has_wireguard
from tests.waiting import eventually

pytestmark = pytest.mark.wireguard

ROOT = Path(__file__).parents[2]
COLLECTION = "ansible_collections.jaywalking.mesh.plugins.modules"
PARTS = (ROOT / "build/collections", ROOT / "plugins/module_utils", ROOT / "supervisor")
KIND = "kernel" if kernel_has_wireguard() else "userspace"
LEFT, RIGHT = "192.0.2.1", "192.0.2.2"
# Another address of the left machine: no node without a grant has the controller's as its endpoint.
CONTROLLER = "192.0.2.9"
Pair = tuple[Namespace, Namespace]


@pytest.fixture
def pair(namespace: Callable[[str], Namespace]) -> Pair:
    left, right = namespace("jwm-left"), namespace("jwm-right")
    connect(left, right, f"{LEFT}/24", f"{RIGHT}/24")
    return left, right


@pytest.fixture(autouse=True)
def _import_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ":".join(map(str, PARTS)))


def module(node: Namespace, called: str, options: dict[str, Any], check: bool = False) -> dict[str, Any]:
    """Runs a module in ``node`` and returns its result."""
    words = {**options, "_ansible_check_mode": check, "_ansible_diff": True}
    argv = [sys.executable, "-m", f"{COLLECTION}.{called}", json.dumps({"ANSIBLE_MODULE_ARGS": words})]
    done = node.runner.run(argv)
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def change(node: Namespace, called: str, **options: Any) -> dict[str, Any]:
    """Check mode, the run, and the run again, which must agree; returns the run's result.

    Before its first join a node may not read which peers the zone has, so check mode cannot show them.
    """
    foretold = module(node, called, options, check=True)
    result = module(node, called, options)
    again = module(node, called, options)
    assert (foretold["changed"], result["changed"], again["changed"]) == (True, True, False)
    is_new = (foretold.get("lease") or {}).get("public_key") == ""
    assert foretold["diff"]["before"] == result["diff"]["before"]
    seen = [
        line for line in result["diff"]["after"].splitlines() if not (is_new and line.startswith("peer "))
    ]
    assert foretold["diff"]["after"].splitlines() == seen
    return result


def reaches(node: Namespace, address: str) -> None:
    node.run(["ping", "-c", "3", "-i", "0.2", "-W", "10", address])


def test_an_interface_is_declared_on_both_ends_and_removed(pair: Pair, tmp_path: Path) -> None:
    public: dict[int, str] = {}
    for number, node in enumerate(pair, 1):
        own = {"name": f"jwm{number}", "private_key_file": str(tmp_path / f"{number}.key")}
        made = change(node, "wireguard_iface", **own, listen_port=51820, addresses=[f"10.99.0.{number}/24"])
        assert made["interface"]["kind"] == KIND
        public[number] = made["interface"]["public_key"]
    for number, node in enumerate(pair, 1):
        other = 3 - number
        peer = {
            "public_key": public[other],
            "allowed_ips": [f"10.99.0.{other}/32"],
            "endpoint": f"192.0.2.{other}:51820",
        }
        own = {"name": f"jwm{number}", "private_key_file": str(tmp_path / f"{number}.key")}
        wish = {**own, "listen_port": 51820, "addresses": [f"10.99.0.{number}/24"], "peers": [peer]}
        change(node, "wireguard_iface", **wish)
    reaches(pair[0], "10.99.0.2")
    change(pair[0], "wireguard_iface", name="jwm1", state="absent")
    assert "jwm1" not in pair[0].run(["ip", "link"])


@pytest.fixture
def controller(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Redis and a supervisor on the left machine; returns the options by which nodes find them."""
    left = pair[0]
    left.run(["ip", "address", "add", f"{CONTROLLER}/32", "dev", "lo"])
    supervisor, agents = tmp_path / "supervisor.password", tmp_path / "agents.password"
    for file in (supervisor, agents):
        file.write_text(secrets.token_hex(16))
    users = tmp_path / "users.acl"
    users.write_text(f"user default off\nuser supervisor on >{supervisor.read_text()} ~* &* +@all\n")
    left.start(
        ["redis-server", "--bind", CONTROLLER, "--dir", str(tmp_path), "--aclfile", str(users), "--save", ""]
    )
    monkeypatch.setenv("JAYWALK_STREAMER_USER", "supervisor")
    command = "from jaywalk_supervisor.cli.main import main; raise SystemExit(main())"
    passwords = ["--streamer-passwd-file", str(supervisor), "--agent-password-file", str(agents)]
    left.start([sys.executable, "-c", command, "--streamer-address", f"{CONTROLLER}:6379", *passwords])
    eventually(lambda: left.run(["ss", "-Hltn", "sport = :8080"]), "the supervisor answers")
    return {"controller": CONTROLLER, "zone": "zone-blue", "controller_password_file": str(agents)}


@pytest.mark.kernel_wireguard
def test_nodes_join_a_zone_reach_each_other_and_leave(
    pair: Pair, controller: dict[str, str], tmp_path: Path
) -> None:
    wishes = [
        {
            **controller,
            "name": f"node{number}",
            "interface": f"jwm{number}",
            "endpoint": f"192.0.2.{number}",
            "private_key_file": str(tmp_path / f"node{number}.key"),
        }
        for number in (1, 2)
    ]
    for number, (node, wish) in enumerate(zip(pair, wishes, strict=True), 1):
        joined = change(node, "jaywalk_join", **wish)
        assert joined["lease"]["addresses"][0] == f"10.20.0.{number}"
        assert joined["interface"]["kind"] == KIND
    left, right = pair
    assert change(left, "jaywalk_join", **wishes[0])["interface"]["peers"]
    reaches(left, "10.20.0.2")
    reaches(right, "10.20.0.1")
    change(right, "jaywalk_join", **wishes[1], state="absent")
    assert "jwm2" not in right.run(["ip", "link"])
