# SPDX-License-Identifier: GPL-3.0-or-later
"""An emulated internet of network namespaces with NATs, and agents in them as processes; needs root.

It has no delay. The lab's NAT sites have one, and whole machines: this one is for frequent runs.
"""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from lab.deadline import Deadline
from tests import processes
from tests.netns import Namespace, connect
from tests.waiting import becomes as eventually

NETWORK = "198.51.100"
CONTROLLER = f"{NETWORK}.1"
NETWORK6 = "fd51:"
CONTROLLER6 = f"{NETWORK6}:1"
HUB, HUB6 = f"{NETWORK}.20", f"{NETWORK6}:20"
NAT = """
table ip site {{
    chain postrouting {{
        type nat hook postrouting priority srcnat
        oifname "wan" ip saddr 192.168.0.0/16 masquerade {random}
    }}
    chain input {{
        type filter hook input priority filter
        ct state established,related accept
        iifname "wan" drop
    }}
    chain forward {{
        type filter hook forward priority filter; policy drop
        iifname "lan" accept
        ct state established,related accept
    }}
}}
"""
BLOCK = """
table ip block {{
    chain prerouting {{
        type filter hook prerouting priority raw
        {rules}
    }}
}}
"""


class EmulatedInternet:
    """A bridge with a controller and its supervisor, and the nodes of a test."""

    def __init__(self, folder: Path, tag: str) -> None:
        self._folder = folder
        self._tag = tag
        self._stack = ExitStack()
        self._processes: list[subprocess.Popen[str]] = []
        self._password = folder / "password"

    def __enter__(self) -> EmulatedInternet:
        self._core = self.namespace("core")
        self._core.run(["ip", "link", "add", "dev", "br0", "type", "bridge"])
        self._core.run(["ip", "link", "set", "dev", "br0", "up"])
        self.control = self.public("control", CONTROLLER, CONTROLLER6)
        self.hub = self.public("hub", HUB, HUB6)
        self._password.write_text(secrets.token_hex(16))
        self._password.chmod(0o600)
        secret = self._password.read_text()
        self.start(
            self.control,
            *(
                "redis-server",
                "--port",
                "6379",
                "--bind",
                CONTROLLER,
                CONTROLLER6,
                "--save",
                "",
                "--dir",
                str(self._folder),
            ),
            *("--requirepass", secret),
        )
        self.start(
            self.control,
            *(
                sys.executable,
                "-m",
                "jaywalk_supervisor.cli.main",
                "--streamer-address",
                f"{CONTROLLER}:6379",
            ),
            *("--streamer-passwd-file", str(self._password), "--agent-password-file", str(self._password)),
        )
        eventually(True, lambda: "serving 2 zones" in self.log(self.control))
        # Nobody reserves anything here: each test decides which of its nodes are relays.
        password = ("--streamer-passwd-file", str(self._password))
        command = (sys.executable, "-m", "jaywalk_supervisor.cli.main", "zone", "set", "zone-blue")
        where = ("--streamer-address", f"{CONTROLLER}:6379")
        self.control.run(
            [*command, "--member-relay", "yes", "--member-prefixes", "0.0.0.0/0", *where, *password]
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            for process in reversed(self._processes):
                process.terminate()
            for process in self._processes:
                processes.end(process)

    def log(self, where: Namespace) -> str:
        """Return the output of the programs in a namespace so far."""
        return (self._folder / f"{where.name}.log").read_text()

    def namespace(self, name: str) -> Namespace:
        """Create an empty namespace."""
        return self._stack.enter_context(Namespace(f"{self._tag}-{name}"))

    def start(self, where: Namespace, *argv: str) -> subprocess.Popen[str]:
        """Start a program that ends with this internet."""
        with (self._folder / f"{where.name}.log").open("a") as log:
            entered = ["nsenter", f"--net=/run/netns/{where.name}", "--", *argv]
            process = subprocess.Popen(entered, stdout=log, stderr=subprocess.STDOUT, text=True)
        self._processes.append(process)
        return process

    def public(self, name: str, *addresses: str) -> Namespace:
        """Create a host with public addresses, of either IP version."""
        host = self.namespace(name)
        for number, address in enumerate(addresses):
            self.open(host, address, f"wan{number}" if number else "wan")
        return host

    def open(self, host: Namespace, address: str, link: str) -> None:
        """Give a host a public address and a default route."""
        self.plug(host, f"{address}/{64 if ':' in address else 24}", link)
        family = "-6" if ":" in address else "-4"
        host.run(["ip", family, "route", "add", "default", "dev", link])

    def plug(self, host: Namespace, cidr: str, link: str) -> None:
        """Connect a host to the bridge by a veth pair."""
        connect(self._core, host, "0.0.0.0/32", cidr, link)
        port = f"p{secrets.token_hex(4)}"
        self._core.run(["ip", "link", "set", "dev", link, "down"])
        self._core.run(["ip", "link", "set", "dev", link, "name", port, "master", "br0", "up"])

    def behind_nat(
        self, name: str, address: str, lan: str, random: bool = False
    ) -> tuple[Namespace, Namespace]:
        """Create a host behind its own router; return both. ``lan`` is such as ``192.168.1``."""
        router = self.namespace(f"{name}-nat")
        self.plug(router, f"{address}/24", "wan")
        host = self.namespace(name)
        connect(router, host, f"{lan}.1/24", f"{lan}.2/24", "lan")
        host.run(["ip", "route", "add", "default", "via", f"{lan}.1"])
        router.run(["tee", "/proc/sys/net/ipv4/ip_forward"], "1")
        router.run(["nft", "-f", "-"], NAT.format(random="fully-random" if random else ""))
        return host, router

    def node(self, where: Namespace, interface: str, *words: str) -> Agent:
        """Start an agent in ``where`` without waiting for it."""
        return Agent(self, where, self._folder / where.name, interface, self._password, words)


class Agent:
    """A node of the zone: the agent, started like a user's."""

    def __init__(
        self,
        internet: EmulatedInternet,
        where: Namespace,
        folder: Path,
        interface: str,
        password: Path,
        words: tuple[str, ...],
    ) -> None:
        self.where = where
        self._internet = internet
        self._name = where.name.split("-", 2)[-1]
        self._argv = [
            *(
                sys.executable,
                "-m",
                "jaywalk_agent.cli.main",
                "--controller",
                CONTROLLER,
                "--name",
                self._name,
            ),
            *("--controller-user", "default", "--controller-password-file", str(password)),
            *(
                "--interface",
                interface,
                "--state-dir",
                str(folder),
                "--private-key-file",
                str(folder / "key"),
            ),
            *("--log-level", "debug", *words),
        ]
        self.start()

    def start(self) -> None:
        self.process = self._internet.start(self.where, *self._argv, "--agent-mode")

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(Deadline(processes.END_SECONDS).left)

    def command(self, *words: str) -> tuple[int, str]:
        done = self.where.runner.run([*self._argv, *words])
        return done.returncode, done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        """``jaywalk status --json``; empty while there is none."""
        done = self.where.runner.run([*self._argv, "status", "--json"])
        return dict(json.loads(done.stdout)) if done.stdout.startswith("{") else {}

    def path(self, name: str) -> tuple[str, str | None]:
        """Return this node's kind of path to another one, and its relay."""
        peers = [peer for peer in self.status().get("peers", []) if peer["name"] == name]
        return (peers[0]["path"], peers[0]["via"]) if peers else ("none", None)

    def address(self) -> str:
        return str(self.status()["addresses"][0])


def block(router: Namespace, one: str, other: str) -> None:
    """Drop all packets between two addresses, without an error to either."""
    directions = ((one, other), (other, one))
    _drop(router, *(f"ip saddr {source} ip daddr {target}" for source, target in directions))


def mute(router: Namespace) -> None:
    """Drop all UDP packets and no others."""
    _drop(router, "meta l4proto udp")


def _drop(router: Namespace, *packets: str) -> None:
    router.run(["nft", "-f", "-"], BLOCK.format(rules="\n".join(f"{packet} drop" for packet in packets)))


def unblock(router: Namespace) -> None:
    router.run(["nft", "delete", "table", "ip", "block"])
