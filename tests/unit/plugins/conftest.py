# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module whole, in this process, on a machine whose programs are scripted."""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

import pytest
import redis
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args
from ansible_collections.jaywalking.mesh.plugins.module_utils.jaywalk.wireguard import mesh_interfaces

from tests import processes
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.waiting import eventually

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
    """A machine with one WireGuard interface at most, and ``wg genkey`` and ``wg pubkey`` that are real.

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
        if words[:2] in (["wg", "genkey"], ["wg", "pubkey"]):
            done = subprocess.run(words, input=data, capture_output=True, text=True, check=False)
            return done.returncode, done.stdout, done.stderr
        answer = self._look(words)
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

    def _look(self, words: list[str]) -> Answer | None:
        no_route_to_any = ["-json", "-force", "-batch", "-"]
        if words[1:] in (["--version"], ["-V"], no_route_to_any):
            return 0, "", ""
        if words[:5] == ["ip", "-json", "-details", "addr", "show"]:
            if self.link is None:
                return 1, "", f'Device "{words[-1]}" does not exist.'
            return 0, json.dumps([dict(self.link, ifname=words[-1])]), ""
        if words[:2] == ["wg", "show"]:
            return 0, self.dump, ""
        if words[:2] == ["wg", "showconf"]:
            return 0, "[Interface]\n", ""
        if words[:4] == ["ip", "-json", "addr", "show"]:
            return 0, "[]", ""
        if words[:2] == ["ip", "-json"] and "route" in words:
            routes = [*self.routes, *self._routes_of_addresses()] if "dev" in words else self.elsewhere
            return 0, json.dumps(routes if words[2] == "-4" else []), ""
        if words[0] == "cat":
            return 0, "0\n" if self.ipv6 else "1\n", ""
        if words[0] == "readlink":
            return 0, "net:[1]\nnet:[2]\n", ""
        return None

    def _routes_of_addresses(self) -> list[dict[str, Any]]:
        """What the kernel makes of the interface's IPv4 addresses."""
        found: list[dict[str, Any]] = []
        for each in (self.link or {}).get("addr_info", []):
            if ":" not in each["local"]:
                network = ipaddress.ip_interface(f"{each['local']}/{each['prefixlen']}").network
                found.append({"dst": str(network), "protocol": "kernel"})
                found.append({"type": "local", "dst": each["local"], "table": "local", "protocol": "kernel"})
        return found

    def words(self) -> list[str]:
        """All that was called or fed to a batch, a line each."""
        return [line for argv, fed in self.calls for line in [" ".join(argv), *fed.splitlines()]]


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
    return scripted


@pytest.fixture
def run_module(
    machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> RunModule:
    """Runs a module with these options and returns what it says; ``failed`` is there if it failed.

    Never on this host: with it comes the machine that is scripted.
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


class Controller:
    """A real Redis with a real ``jaywalk-supervisor``, and the options that reach them."""

    AGENT_USER = "agent-zone-blue"

    def __init__(self, redis_server: RedisServer, folder: Path) -> None:
        self.redis = redis_server
        self.agent_password = secrets.token_hex(16)
        self.as_operator = self._options(folder / "operator.password", redis_server.password)
        self.as_agent = self._options(folder / "agent.password", self.agent_password)
        self._log = folder / "supervisor.log"
        self._process: subprocess.Popen[bytes] | None = None

    def _options(self, file: Path, password: str) -> dict[str, Any]:
        file.write_text(password + "\n")
        return {
            "controller": f"{self.redis.host}:{self.redis.port}",
            "controller_password_file": str(file),
            "zone": "zone-blue",
            "timeout": 60,
        }

    def start(self) -> None:
        """Starts the supervisor and waits until agents can log in."""
        words = ["--agent-password-file", self.as_agent["controller_password_file"]]
        self._process = self._command(*words, "--api-address", f"127.0.0.1:{free_port()}")
        with self.redis.client() as client:
            eventually(lambda: self._serves(client), "the supervisor serves its zone")

    def set_zone(self, *words: str) -> None:
        """Has the operator change the zone."""
        assert self._command("zone", "set", "zone-blue", *words).wait() == 0, self._log.read_text()

    def _command(self, *words: str) -> subprocess.Popen[bytes]:
        """Starts ``jaywalk-supervisor``, which is told where Redis is."""
        program = "from jaywalk_supervisor.cli.main import main; raise SystemExit(main())"
        where = ["--streamer-address", self.as_operator["controller"], "--streamer-user", "supervisor"]
        where += ["--streamer-passwd-file", self.as_operator["controller_password_file"]]
        root = Path(__file__).parents[3]
        paths = f"{root / 'plugins/module_utils'}:{root / 'supervisor'}"
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", program, *where, *words],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": paths},
            )

    def _serves(self, client: redis.Redis) -> bool:
        assert self._process is not None and self._process.poll() is None, self._log.read_text()
        return self.AGENT_USER in client.acl_users() and bool(client.exists("{zone-blue}:meta"))

    def stop(self) -> None:
        """Stops the supervisor; Redis stays."""
        if self._process is not None:
            process, self._process = self._process, None
            processes.end(process)


@pytest.fixture
def controller(redis_server: RedisServer, tmp_path: Path) -> Iterator[Controller]:
    """For one test, which may stop the supervisor and fill the zone."""
    made = Controller(redis_server, tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def lasting_controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """For all tests of a file that change nothing."""
    with RedisServer() as server:
        made = Controller(server, tmp_path_factory.mktemp("controller"))
        made.start()
        yield made
        made.stop()
