# SPDX-License-Identifier: GPL-3.0-or-later
"""A WireGuard interface in memory, which does what ``wg set`` and ``ip -batch`` say, as Linux does it.

The traits that matter to a plan are in it: allowed IPs belong to one peer at a time, a primary IPv4 address
takes its secondaries along, the last IPv4 address takes all IPv4 routes along, a command that does not fit
the state fails.  ``test_wireguard.py`` holds the same plans against the real thing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jaywalk.interface import Interface, Observed, ObservedPeer, WgPeer
from jaywalk.runner import Finished

NAME = "wg0"


@dataclass
class ModelPeer:
    allowed: set[str] = field(default_factory=set)
    endpoint: str = ""
    keepalive: int = 0
    handshake: int = 0


@dataclass
class ModelInterface:
    """The state of one interface; a runner for the one who applies a plan to it."""

    exists: bool = False
    public_key: str = ""
    listen_port: int = 0
    addresses: list[str] = field(default_factory=list)
    mtu: int = 1420
    up: bool = False
    peers: dict[str, ModelPeer] = field(default_factory=dict)
    routes: set[str] = field(default_factory=set)
    key_files: Mapping[str, str] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    """All words of all commands so far."""

    @classmethod
    def of(cls, observed: Observed | None, key_files: Mapping[str, str]) -> ModelInterface:
        if observed is None:
            return cls(key_files=key_files)
        peers = {
            peer.key: ModelPeer(set(peer.allowed_ips), peer.endpoint, peer.keepalive, peer.handshake)
            for peer in observed.peers.values()
        }
        return cls(
            exists=True,
            public_key=observed.public_key,
            listen_port=observed.listen_port,
            addresses=list(observed.addresses),
            mtu=observed.mtu,
            up=observed.up,
            peers=peers,
            routes=set(observed.routes),
            key_files=key_files,
        )

    def observed(self) -> Observed | None:
        if not self.exists:
            return None
        peers = {
            key: ObservedPeer(key, tuple(sorted(peer.allowed)), peer.endpoint, peer.keepalive, peer.handshake)
            for key, peer in self.peers.items()
        }
        return Observed(
            name=NAME,
            kind="kernel",
            public_key=self.public_key,
            listen_port=self.listen_port,
            addresses=tuple(self.addresses),
            mtu=self.mtu,
            up=self.up,
            peers=peers,
            routes=frozenset(self.routes),
        )

    def facts(self) -> set[str]:
        """The state in the words of a diff."""
        if not self.exists:
            return set()
        lines = {f"interface {NAME}", f"mtu {self.mtu}"}
        lines |= {f"public-key {self.public_key}"} if self.public_key else set()
        lines |= {f"listen-port {self.listen_port}"} if self.listen_port else set()
        lines |= {"link up"} if self.up else set()
        lines |= {f"address {each}" for each in self.addresses}
        lines |= {f"route {each}" for each in self.routes}
        for key, peer in self.peers.items():
            shown = WgPeer(key, tuple(peer.allowed), peer.endpoint, peer.keepalive)
            lines |= set(shown.lines())
        return lines

    def run(self, argv: Sequence[str], stdin: str | None = None) -> Finished:
        self.words += [*argv, *(stdin or "").split()]
        head, rest = tuple(argv[:2]), list(argv[2:])
        if head == ("wg", "set") and rest[0] == NAME and self.exists:
            self._wg_set(rest[1:])
        elif tuple(argv) == ("ip", "-force", "-batch", "-") and self.exists:
            for line in (stdin or "").splitlines():
                self._ip(line.split())
        elif tuple(argv) == ("ip", "link", "add", "dev", NAME, "type", "wireguard") and not self.exists:
            self.exists = True
        elif tuple(argv) == ("ip", "link", "delete", "dev", NAME) and self.exists:
            self.__init__(key_files=self.key_files, words=self.words)
        else:
            raise AssertionError(f"no such command here and now: {argv}")
        return Finished(0, "", "")

    def _wg_set(self, words: list[str]) -> None:
        peer: ModelPeer | None = None
        key = ""
        rest = iter(words)
        for word in rest:
            value = next(rest, "") if word != "remove" else ""
            if word == "private-key":
                self.public_key = self.key_files[value]
            elif word == "listen-port":
                self.listen_port = int(value)
            elif word == "peer":
                key, peer = value, self.peers.setdefault(value, ModelPeer())
            elif word == "remove":
                del self.peers[key]
            elif peer is not None and word == "endpoint":
                peer.endpoint = value
            elif peer is not None and word == "persistent-keepalive":
                peer.keepalive = int(value)
            elif peer is not None and word == "allowed-ips":
                prefixes = set(filter(None, value.split(",")))
                for other in self.peers.values():
                    other.allowed -= prefixes
                peer.allowed = prefixes
            else:
                raise AssertionError(f"wg set does not know {word}")

    def _ip(self, words: list[str]) -> None:
        kind, verb, what, dev, name, *rest = words if words[0] != "link" else [*words[:2], "", *words[2:]]
        assert (dev, name) == ("dev", NAME), words
        if (kind, verb) == ("link", "set") and rest == ["up"]:
            self.up = True
        elif (kind, verb) == ("link", "set"):
            assert rest[0] == "mtu"
            self.mtu = int(rest[1])
        elif (kind, verb) == ("addr", "replace"):
            assert rest == (["nodad"] if ":" in what else [])
            self.addresses += [] if what in self.addresses else [what]
        elif (kind, verb) == ("addr", "del"):
            self._delete_address(what)
        else:
            assert kind == "route" and self.up, words
            self._route(verb, what, rest)

    def _route(self, verb: str, prefix: str, rest: list[str]) -> None:
        if verb == "del":
            self.routes.remove(prefix)
            return
        assert rest == ["metric", "2048"]
        if verb == "add":
            assert prefix not in self.routes, f"File exists: {prefix}"
        else:
            assert verb == "replace"
        self.routes.add(prefix)

    def _delete_address(self, cidr: str) -> None:
        subnet = ipaddress.ip_interface(cidr).network
        same = [each for each in self.addresses if ipaddress.ip_interface(each).network == subnet]
        self.addresses.remove(cidr)
        if subnet.version == 6:
            return
        if same[0] == cidr:
            self.addresses = [each for each in self.addresses if each not in same]
        if not any(":" not in each for each in self.addresses):
            self.routes = {each for each in self.routes if ":" in each}


def settled(desired: Interface, before: Observed | None, now: float) -> dict[str, tuple[set[str], str, int]]:
    """What each peer should be in the end: a live peer that roamed keeps its endpoint."""
    result = {}
    for key, peer in desired.peers.items():
        old = before.peers.get(key) if before is not None else None
        roams = old is not None and bool(old.endpoint) and now - old.handshake < 180
        endpoint = old.endpoint if old is not None and (roams or not peer.endpoint) else peer.endpoint
        result[key] = (set(peer.allowed_ips), endpoint, peer.keepalive)
    return result
