# SPDX-License-Identifier: GPL-3.0-or-later
"""Two nodes of a round with real agents and real WireGuard, in network namespaces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from jaywalk.core.errors import JaywalkError
from jaywalk.core.runner import SubprocessRunner
from jaywalk.wireguard import keys
from tests import processes
from tests.netns import NSENTER, Namespace, connect

from .checker.snapshot import ZoneSnapshot
from .machines import ENVIRONMENT

COUNT = 2
# The link between the two nodes, for their tunnels; it leads nowhere else.
LINK = ("198.51.100.1/30", "198.51.100.2/30")
COMMAND = "from jaywalk_agent.cli.main import main; raise SystemExit(main())"
SHORT_WAITS = """
from redis.backoff import FullJitterBackoff
from jaywalk_agent.zone import follower, membership
follower.RECONNECT = follower.RESYNC = FullJitterBackoff(cap=1.0, base=0.1)
follower.TICK_SECONDS, follower.REPORT_SECONDS = 2.0, 1.0
membership.LONGEST_REPEAT_SECONDS = 1.0
"""


def may_run() -> bool:
    """Return whether this process may create network namespaces."""
    return sys.platform == "linux" and os.geteuid() == 0


class RealAgent:
    """``jaywalk --agent-mode`` as a process in its own network namespace."""

    def __init__(self, number: int, zone: str, folder: Path, where: Namespace, has_short_waits: bool) -> None:
        self.zone, self.name = zone, f"real{number}"
        self._where = where
        self._interface = f"jwc{number}-{os.getpid() % 10**6}"
        self._folder = folder / self.name
        self._folder.mkdir()
        key_file = self._folder / "key"
        self.key, _ = keys.ensure_key_file(SubprocessRunner(), str(key_file))
        code = (SHORT_WAITS if has_short_waits else "") + COMMAND
        self.netns = where.name
        self._argv = [NSENTER, f"--net=/run/netns/{where.name}", "--", sys.executable, "-c", code]
        self._environment = {
            **ENVIRONMENT,
            "JAYWALK_AGENT_MODE": "true",
            "JAYWALK_ZONE": zone,
            "JAYWALK_NAME": self.name,
            "JAYWALK_INTERFACE": self._interface,
            "JAYWALK_STATE_DIR": str(self._folder),
            "JAYWALK_PRIVATE_KEY_FILE": str(key_file),
            "JAYWALK_LOCAL_ENDPOINT_IP": LINK[number % COUNT].partition("/")[0],
        }
        self._process: subprocess.Popen[bytes] | None = None

    def set_controller(self, controller: str, password: str, ca: str = "") -> None:
        """Set the address and the password of its controller, and the CA's file for TLS."""
        self._environment |= {
            "JAYWALK_CONTROLLER": controller,
            "JAYWALK_CONTROLLER_PASSWD": password,
            "JAYWALK_CONTROLLER_CA": ca,
        }

    def set_options(self, **variables: str) -> None:
        """Set variables of its configuration, for its next start."""
        self._environment |= variables

    def kill(self) -> None:
        """Kill and restart it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.start_if_ended()

    def start_if_ended(self) -> None:
        """Start it if it does not run, as its service manager does."""
        if self._process is None or self._process.poll() is not None:
            with Path(self._folder, "log").open("ab") as log:
                self._process = subprocess.Popen(
                    self._argv, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            processes.end(self._process)

    @property
    def log(self) -> str:
        """Its log so far."""
        return Path(self._folder, "log").read_text(encoding="utf-8", errors="replace")

    @property
    def error(self) -> str:
        """What its status says is wrong with it; empty while it has no status."""
        try:
            status = json.loads(Path(self._folder, "run", f"{self.zone}.status").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ""
        return str(status["trouble"])

    @property
    def rejected(self) -> dict[str, str]:
        """Why it does not take records, by key, as it wrote on its disk last."""
        try:
            document = json.loads(Path(self._folder, f"{self.zone}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return dict(document.get("rejected", {}))

    def reaches(self, address: str) -> bool:
        """Whether an address answers it through the tunnel."""
        done = self._where.runner.run(["ping", "-c", "1", "-W", "2", "-I", self._interface, address])
        return done.returncode == 0

    @property
    def allowed_ips(self) -> dict[str, frozenset[str]]:
        """The allowed IPs of each peer on its interface; none without an interface."""
        try:
            return self._peers()
        except JaywalkError:
            return {}

    @property
    def peer_keys(self) -> set[str]:
        """The keys of the peers on its interface; none without an interface."""
        try:
            return set(self._peers())
        except JaywalkError:
            return set()

    @property
    def routes(self) -> set[str]:
        """The destinations that its machine routes into the mesh."""
        shown = self._where.run(["ip", "-json", "route", "show", "dev", self._interface])
        return {str(route["dst"]) for route in json.loads(shown)}

    def unequal(self, snapshot: ZoneSnapshot) -> Iterator[str]:
        """Yield the differences of its interface from the zone."""
        who = f"the interface of {self.zone}/{self.name}"
        try:
            peers, addresses = self._peers(), self._addresses()
        except JaywalkError as error:
            yield f"{who} cannot be read: {error}"
            return
        for difference in interface_differences(self.key, addresses, peers, snapshot):
            yield f"{who} {difference}"

    def _peers(self) -> dict[str, frozenset[str]]:
        """Return the allowed IPs of each peer on the interface."""
        lines = self._where.run(["wg", "show", self._interface, "allowed-ips"]).splitlines()
        return {key: frozenset(prefixes) for key, *prefixes in (line.split() for line in lines)}

    def _addresses(self) -> set[str]:
        shown = json.loads(self._where.run(["ip", "-json", "addr", "show", "dev", self._interface]))
        return {
            each["local"] for link in shown for each in link["addr_info"] if each.get("scope") == "global"
        }


def interface_differences(
    key: str, addresses: set[str], peers: Mapping[str, frozenset[str]], snapshot: ZoneSnapshot
) -> Iterator[str]:
    """Yield the differences of an interface with these addresses and allowed IPs from the zone."""
    own = snapshot.peers.get(key, {"a": []})
    if addresses != set(own["a"]):
        yield f"has {sorted(addresses)}, in Redis {own['a']}"
    there = {other: _allowed(peer["a"], peer.get("p", ())) for other, peer in snapshot.peers.items()}
    there.pop(key, None)
    for other in sorted(peers.keys() | there.keys()):
        if peers.get(other) != there.get(other):
            yield f"sends to {other} {peers.get(other)}, in Redis {there.get(other)}"


def _allowed(addresses: Sequence[str], prefixes: Sequence[str]) -> frozenset[str]:
    return frozenset((*(f"{each}/{128 if ':' in each else 32}" for each in addresses), *prefixes))


def create_real_agents(stack: ExitStack, zone: str, folder: Path, has_short_waits: bool) -> list[RealAgent]:
    """Create two nodes with a link between them, without a controller's address."""
    names = [f"jwc-{number}-{os.getpid()}" for number in range(COUNT)]
    namespaces = [stack.enter_context(Namespace(name)) for name in names]
    connect(namespaces[0], namespaces[1], *LINK)
    return [
        RealAgent(number, zone, folder, namespace, has_short_waits)
        for number, namespace in enumerate(namespaces)
    ]
