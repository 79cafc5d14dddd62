# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs an Ansible module whole, in this process, on a machine whose programs are scripted."""

from __future__ import annotations

import base64
import ipaddress
import json
import os
from collections.abc import Callable
from pathlib import PurePath
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.wireguard import (
    mesh_interfaces,
    userspace,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

Result = dict[str, Any]
RunModule = Callable[..., Result]
Answer = tuple[int, str, str]

LINK = {
    "ifname": "wg0",
    "flags": ["POINTOPOINT", "NOARP", "UP"],
    "mtu": 1420,
    "linkinfo": {"info_kind": "wireguard"},
    "addr_info": [],
}


class Machine:
    """A machine with at most one WireGuard interface, and with real WireGuard keys.

    ``calls`` are the commands that change something, each with its input.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], str]] = []
        self.missing: set[str] = set()
        self.link: dict[str, Any] | None = None
        self.dump = "(none)\t(none)\t0\toff\n"
        self.routes: list[dict[str, Any]] = []
        self.elsewhere: list[dict[str, Any]] = []
        self.breaks = ""
        self.ipv6 = True
        self.zones: dict[str, str] = {}

    def get_bin_path(self, program: str) -> str | None:
        return None if program in self.missing else f"/usr/bin/{program}"

    def run_command(self, argv: list[str], data: str | None = None, **_options: Any) -> Answer:
        words = [PurePath(argv[0]).name, *argv[1:]]
        if words[:2] == ["wg", "genkey"]:
            return 0, base64.b64encode(os.urandom(32)).decode() + "\n", ""
        if words[:2] == ["wg", "pubkey"]:
            return wg_pubkey(data or "")
        answer = self._query(words)
        if answer is not None:
            return answer
        self.calls.append((words, data or ""))
        if self.breaks and self.breaks in " ".join(words) + (data or ""):
            return 1, "", "it broke"
        if words[:3] == ["ip", "link", "add"]:
            self.link = dict(LINK, ifname=words[4], flags=[])
        if words[:3] == ["ip", "link", "delete"]:
            self.link = None
        return 0, "", ""

    def _query(self, words: list[str]) -> Answer | None:
        no_route_to_any = ["-json", "-force", "-batch", "-"]
        if words[1:] in (["--version"], ["-V"], no_route_to_any):
            return 0, "", ""
        if words[:5] == ["ip", "-json", "-details", "addr", "show"]:
            if self.link is None:
                return 1, "", f'Device "{words[-1]}" does not exist.'
            return 0, json.dumps([dict(self.link, ifname=words[-1])]), ""
        if words[:4] == ["ip", "link", "show", "dev"]:
            return (0, "", "") if self.link else (1, "", f'Device "{words[-1]}" does not exist.')
        if words[:2] == ["wg", "show"]:
            return 0, self.dump, ""
        if words[:2] == ["wg", "showconf"]:
            return 0, "[Interface]\n", ""
        if words[:4] == ["ip", "-json", "addr", "show"]:
            return 0, "[]", ""
        if words[:2] == ["ip", "-json"] and "route" in words:
            routes = [*self.routes, *self._routes_of_addresses()] if "dev" in words else self.elsewhere
            return 0, json.dumps(routes if words[2] == "-4" else []), ""
        outputs = {"cat": "0\n" if self.ipv6 else "1\n", "readlink": "net:[1]\nnet:[2]\n"}
        return (0, outputs[words[0]], "") if words[0] in outputs else None

    def _routes_of_addresses(self) -> list[dict[str, Any]]:
        """Return the kernel's routes of the interface's IPv4 addresses."""
        routes: list[dict[str, Any]] = []
        for address in (self.link or {}).get("addr_info", []):
            local = address["local"]
            if ":" not in local:
                network = ipaddress.ip_interface(f"{local}/{address['prefixlen']}").network
                routes.append({"dst": str(network), "protocol": "kernel"})
                routes.append({"type": "local", "dst": local, "table": "local", "protocol": "kernel"})
        return routes

    def words(self) -> list[str]:
        """Return all commands and lines of batches, in order."""
        return [line for argv, data in self.calls for line in [" ".join(argv), *data.splitlines()]]


def wg_pubkey(private_key: str) -> Answer:
    """Return the output of ``wg pubkey``."""
    try:
        key = X25519PrivateKey.from_private_bytes(base64.b64decode(private_key, validate=False))
    except ValueError:
        return 1, "", "wg: Key is not the correct length or format\n"
    return 0, base64.b64encode(key.public_key().public_bytes_raw()).decode() + "\n", ""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    scripted = Machine()
    monkeypatch.setattr(
        basic.AnsibleModule, "get_bin_path", lambda _self, program, **_options: scripted.get_bin_path(program)
    )
    monkeypatch.setattr(
        basic.AnsibleModule,
        "run_command",
        lambda _self, argv, **options: scripted.run_command(argv, **options),
    )
    monkeypatch.setattr(mesh_interfaces, "zones_by_interface", lambda: scripted.zones)
    # This host may have a userspace WireGuard of the same name.
    monkeypatch.setattr(userspace, "CONTROL_SOCKETS", "/nonexistent")
    return scripted


@pytest.fixture
def run_module(
    machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> RunModule:
    """Run a module with options and return its result, with ``failed`` if it failed.

    It never runs on this host: the fixture includes the scripted machine.
    """
    # Tests of action plugins make this process a controller, which shows warnings and does not return them.
    monkeypatch.setattr("ansible.module_utils._internal.is_controller", False)

    def run(module: ModuleType, check: bool = False, **options: Any) -> Result:
        arguments = {"_ansible_check_mode": check, "_ansible_diff": True, **options}
        with patch_module_args(arguments), pytest.raises(SystemExit) as end:
            module.main()
        result: Result = json.loads(capsys.readouterr().out)
        assert (end.value.code == 0) == (not result.get("failed"))
        return result

    return run
