# SPDX-License-Identifier: GPL-3.0-or-later
"""A person at the keyboards of all machines, with docs/original.md beside them."""

from __future__ import annotations

import json
import secrets
import shlex
from typing import Any

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.zone.requests import Request
from lab.node import Node
from lab.ssh import Background, Result
from tests.fleet.fleet import INTERFACE, MEMBERS, ROOT, UNIT, Fleet, eventually
from tests.fleet.page import Page

PAGE = ROOT / "docs" / "original.md"
written = Page(PAGE).written
SERVICES = "jaywalk-supervisor jaywalk-redis"
KEPT = ("/etc/jaywalk", "/var/lib/jaywalk")
"""What the services have on a node; moved aside, since a command by hand would find it."""


class Hand:
    """Types commands of the page on the fleet's machines, and clears up after itself."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.password = secrets.token_urlsafe(24)
        self.supervisor: Background
        self._running: list[Background] = []

    def __getitem__(self, name: str) -> Node:
        return self.fleet[name]

    @property
    def values(self) -> dict[str, str]:
        """What stands for the page's words about the controller."""
        return {"REDIS_SERVER_ADDRESS": self.fleet.controller.address, "REDIS_PASSWORD": self.password}

    def take_over(self) -> None:
        """Stops all services, lays out what the page supposes, and starts Redis and a supervisor by it."""
        for name in MEMBERS:
            aside = "; ".join(f"mv {path} {path}.aside" for path in KEPT)
            self[name].run(f"systemctl stop {UNIT}; jaywalk down; {aside}; ip -br link")
        for name in ("control", *MEMBERS):
            self[name].run("umask 077; cat > /root/redis.password", stdin=self.password)
        redis = written("controller", **self.values)
        self.fleet.controller.run(f"systemctl stop {SERVICES}; mkdir -p /root/hand; cd /root/hand; {redis}")
        self.start_supervisor()

    def start_supervisor(self) -> None:
        """Types the page's block for the supervisor, which runs on."""
        self.supervisor = self.fleet.controller.start_background(written("supervisor", **self.values))
        eventually(lambda: "zone-blue" in self.get("/zones"), "the supervisor answers")

    def get(self, path: str) -> str:
        """What the REST API answers."""
        return self.fleet.controller.run(f"curl -sS http://localhost:8080{path}", check=False).stdout

    def make_key(self, name: str) -> dict[str, str]:
        """A node's key by the page's `wg genkey`, as the values that its commands take."""
        public = self[name].run(written("key of wg")).stdout.strip()
        private = self[name].run("cat /etc/wireguard/server_private.key").stdout.strip()
        return {"NODE_WIREGUARD_PUBLIC_KEY": public, "NODE_WIREGUARD_PRIVATE_KEY": private}

    def start(self, name: str, title: str, **values: str) -> Background:
        """Types a block of the page that starts an agent, and lets it run until the test's end."""
        running = self[name].start_background(written(title, **self.values, **values))
        self._running.append(running)
        return running

    def run(self, name: str, title: str, **values: str) -> Result:
        """Types a block of the page and waits for its end."""
        return self[name].run(written(title, **self.values, **values), timeout=60)

    def addresses(self, name: str, interface: str = INTERFACE, netns: str = "") -> list[str]:
        """The addresses of an interface, without those of the link; none where there is no interface."""
        words = ["ip", *(["-n", netns] if netns else []), "-json", "addr", "show", "dev", interface]
        shown: list[Any] = json.loads(self[name].run(words, check=False).stdout or "[]")
        return [
            each["local"] for link in shown for each in link.get("addr_info", []) if each["scope"] == "global"
        ]

    def joined(self, name: str, interface: str = INTERFACE) -> str:
        """Waits until a node has its interface, and returns its first address there."""
        eventually(lambda: bool(self.addresses(name, interface)), f"{name} has {interface}")
        return self.addresses(name, interface)[0]

    def reaches(self, name: str, address: str, interface: str = INTERFACE, count: int = 1) -> bool:
        """Whether a ping is answered; from that interface, unless none is named."""
        through = f"-I {interface}" if interface else ""
        words = f"ping -n -q -c {count} -i 0.2 -W 2 {through} {shlex.quote(address)}"
        return self[name].run(words, check=False).rc == 0

    def will_reach(self, name: str, address: str, interface: str = INTERFACE) -> None:
        """Waits until it does."""
        eventually(lambda: self.reaches(name, address, interface), f"{name} reaches {address}")

    def clear_nodes(self) -> None:
        """Ends what was started, and takes away what it left on the nodes and in the zones."""
        for running in self._running:
            print(running.stop().stderr)  # pytest shows it where the test failed
        self._running.clear()
        for name in MEMBERS:
            self[name].run(
                "for link in $(wg show interfaces); do ip link delete $link; done; "
                "systemctl stop 'jaywalk-wireguard-*'; "
                "ip -all netns delete; ip addr flush dev lo scope global; "
                f"rm -rf {' '.join(KEPT)} /etc/wireguard/*"
            )

    def clear_zones(self) -> None:
        """Takes all peers out of the zones, so that the next test finds addresses and prefixes free."""
        where = ControllerAddress(self.fleet.controller.address, 6379, "default", self.password)
        for peer in json.loads(self.get("/peers")):
            zone = ZoneClient(connect(where), where, peer["Zone"])
            order = Request.checked("release", peer["Zone"], peer["PublicKey"])
            zone.ask(order, 20, zone.keys.orders).lease_or_raise()
            zone.client.close()

    def give_back(self) -> None:
        """The services as they were."""
        self.clear_nodes()
        controller = self.fleet.controller
        self.supervisor.stop()
        stop = f"REDISCLI_AUTH='{self.password}' redis-cli -h 127.0.0.1 shutdown nosave"
        controller.run(f"{stop}; rm -rf /root/hand /root/redis.password ipam-blue.json")
        controller.run(f"systemctl start {SERVICES}")
        for name in MEMBERS:
            back = "; ".join(f"rm -rf {path}; mv {path}.aside {path}" for path in KEPT)
            self[name].run(f"{back}; rm -f /root/redis.password; systemctl start {UNIT}")
        for name in MEMBERS:
            others = set(MEMBERS) - {name}
            eventually(lambda: self.fleet.peers_of(name) >= others, f"{name} is in the mesh again")  # noqa: B023
