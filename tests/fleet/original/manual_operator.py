# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator who runs the commands of docs/original.md on all machines."""

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
commands = Page(PAGE).commands
SERVICES = "jaywalk-supervisor jaywalk-redis"
# The files of a node's services; moved away, since commands by hand would read them.
SERVICE_FILES = ("/etc/jaywalk", "/var/lib/jaywalk")


class ManualOperator:
    """Runs commands of the page on the fleet's machines, and removes their effects."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.password = secrets.token_urlsafe(24)
        self.supervisor: Background
        self._running: list[Background] = []

    def __getitem__(self, name: str) -> Node:
        return self.fleet[name]

    @property
    def values(self) -> dict[str, str]:
        """The values of the page's placeholders for the controller."""
        return {"REDIS_SERVER_ADDRESS": self.fleet.controller.address, "REDIS_PASSWORD": self.password}

    def stop_services(self) -> None:
        """Stop all services, create the files that the page assumes, start its Redis and supervisor."""
        for name in MEMBERS:
            aside = "; ".join(f"mv {path} {path}.aside" for path in SERVICE_FILES)
            self[name].run(f"systemctl stop {UNIT}; jaywalk down; {aside}; ip -br link")
        for name in ("control", *MEMBERS):
            self[name].run("umask 077; cat > /root/redis.password", stdin=self.password)
        redis = commands("controller", **self.values)
        self.fleet.controller.run(f"systemctl stop {SERVICES}; mkdir -p /root/hand; cd /root/hand; {redis}")
        self.start_supervisor()

    def start_supervisor(self) -> None:
        """Start the page's command for the supervisor in the background."""
        self.supervisor = self.fleet.controller.start_background(commands("supervisor", **self.values))
        eventually(lambda: "zone-blue" in self.get("/zones"), "the supervisor answers")

    def get(self, path: str) -> str:
        """Return the REST API's response."""
        return self.fleet.controller.run(f"curl -sS http://localhost:8080{path}", check=False).stdout

    def make_key(self, name: str) -> dict[str, str]:
        """Create a node's key by the page's `wg genkey`; return the values of the placeholders for it."""
        public = self[name].run(commands("key of wg")).stdout.strip()
        private = self[name].run("cat /etc/wireguard/server_private.key").stdout.strip()
        return {"NODE_WIREGUARD_PUBLIC_KEY": public, "NODE_WIREGUARD_PRIVATE_KEY": private}

    def start(self, name: str, title: str, **values: str) -> Background:
        """Start a block of the page that runs an agent, until the end of the test."""
        running = self[name].start_background(commands(title, **self.values, **values))
        self._running.append(running)
        return running

    def run(self, name: str, title: str, **values: str) -> Result:
        """Run a block of the page to its end."""
        return self[name].run(commands(title, **self.values, **values), timeout=60)

    def addresses(self, name: str, interface: str = INTERFACE, netns: str = "") -> list[str]:
        """Return the addresses of an interface, without link-local ones; none without the interface."""
        words = ["ip", *(["-n", netns] if netns else []), "-json", "addr", "show", "dev", interface]
        shown: list[Any] = json.loads(self[name].run(words, check=False).stdout or "[]")
        return [
            address["local"]
            for link in shown
            for address in link.get("addr_info", [])
            if address["scope"] == "global"
        ]

    def joined(self, name: str, interface: str = INTERFACE) -> str:
        """Wait until a node has its interface, and return its first address there."""
        eventually(lambda: bool(self.addresses(name, interface)), f"{name} has {interface}")
        return self.addresses(name, interface)[0]

    def reaches(self, name: str, address: str, interface: str = INTERFACE, count: int = 1) -> bool:
        """Return whether a ping gets a reply; sent from that interface, if one is given."""
        through = f"-I {interface}" if interface else ""
        words = f"ping -n -q -c {count} -i 0.2 -W 2 {through} {shlex.quote(address)}"
        return self[name].run(words, check=False).rc == 0

    def will_reach(self, name: str, address: str, interface: str = INTERFACE) -> None:
        """Wait until it does."""
        eventually(lambda: self.reaches(name, address, interface), f"{name} reaches {address}")

    def clear_nodes(self) -> None:
        """End the agents, and remove their interfaces and files from the nodes."""
        for running in self._running:
            print(running.stop().stderr)  # pytest shows it if the test failed
        self._running.clear()
        for name in MEMBERS:
            self[name].run(
                "for link in $(wg show interfaces); do ip link delete $link; done; "
                "systemctl stop 'jaywalk-wireguard-*'; "
                "ip -all netns delete; ip addr flush dev lo scope global; "
                f"rm -rf {' '.join(SERVICE_FILES)} /etc/wireguard/*"
            )

    def clear_zones(self) -> None:
        """Release all peers of the zones, so that addresses and prefixes are free for the next test."""
        where = ControllerAddress(self.fleet.controller.address, 6379, "default", self.password)
        for peer in json.loads(self.get("/peers")):
            zone = ZoneClient(connect(where), where, peer["Zone"])
            order = Request.validated("release", peer["Zone"], peer["PublicKey"])
            zone.ask(order, 20, zone.keys.operator_inbox).lease_or_raise()
            zone.client.close()

    def restore_services(self) -> None:
        """Start the services again, with their files."""
        self.clear_nodes()
        controller = self.fleet.controller
        self.supervisor.stop()
        stop = f"REDISCLI_AUTH='{self.password}' redis-cli -h 127.0.0.1 shutdown nosave"
        controller.run(f"{stop}; rm -rf /root/hand /root/redis.password ipam-blue.json")
        controller.run(f"systemctl start {SERVICES}")
        for name in MEMBERS:
            back = "; ".join(f"rm -rf {path}; mv {path}.aside {path}" for path in SERVICE_FILES)
            self[name].run(f"{back}; rm -f /root/redis.password; systemctl start {UNIT}")
        for name in MEMBERS:
            others = set(MEMBERS) - {name}
            eventually(
                lambda name=name, others=others: self.fleet.peers_of(name) >= others,
                f"{name} is in the mesh again",
            )
