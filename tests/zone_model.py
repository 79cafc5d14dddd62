# SPDX-License-Identifier: GPL-3.0-or-later
"""A WireGuard interface in memory, which executes ``wg set`` and ``ip -batch`` as Linux does.

The traits that matter to a plan are in it: allowed IPs belong to one peer at a time, a primary IPv4 address
takes its secondaries along, the last IPv4 address takes all IPv4 routes along, a command that does not fit
the state fails.  ``test_wireguard.py`` holds the same plans against the real thing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jaywalk.core.runner import Finished
from jaywalk.wireguard.interface import Interface, ObservedInterface, ObservedPeer, WgPeer, networks_of

NAME = "wg0"


class Refused(Exception):
    """The kernel refused a line of ``ip``."""


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
    networks: set[str] = field(default_factory=set)
    """Networks with a route of the kernel, as long as the link is up and has the addresses."""
    hosts: set[str] = field(default_factory=set)
    """Hosts with a route in the table of local routes."""
    key_files: Mapping[str, str] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    """All words of all commands so far."""

    @classmethod
    def of(cls, observed: ObservedInterface | None, key_files: Mapping[str, str]) -> ModelInterface:
        if observed is None:
            return cls(key_files=key_files)
        peers = {
            peer.key: ModelPeer(set(peer.allowed_ips), peer.endpoint, peer.keepalive, peer.handshake)
            for peer in observed.peers.values()
        }
        model = cls(
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
        if model.up:
            for each in model.addresses:
                model._add_kernel_routes(each)
        model.networks -= observed.lost_networks
        model.hosts -= observed.lost_hosts
        return model

    def observed(self) -> ObservedInterface | None:
        if not self.exists:
            return None
        peers = {
            key: ObservedPeer(key, tuple(sorted(peer.allowed)), peer.endpoint, peer.keepalive, peer.handshake)
            for key, peer in self.peers.items()
        }
        return ObservedInterface(
            name=NAME,
            kind="kernel",
            public_key=self.public_key,
            listen_port=self.listen_port,
            addresses=tuple(self.addresses),
            mtu=self.mtu,
            up=self.up,
            peers=peers,
            routes=frozenset(self.routes),
            lost_networks=frozenset(networks_of(self.addresses).keys() - self.networks - self.routes)
            if self.up
            else frozenset(),
            lost_hosts=frozenset({each.split("/")[0] for each in self.addresses} - self.hosts)
            if self.up
            else frozenset(),
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
            stderr = ""
            for number, line in enumerate((stdin or "").splitlines(), 1):
                try:
                    self._ip(line.split())
                except Refused as refused:
                    stderr += f"RTNETLINK answers: {refused}\nCommand failed -:{number}\n"
            return Finished(int(bool(stderr)), "", stderr)
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
        local = words[:3] == ["route", "append", "local"]
        words = [*words[:2], *words[3:]] if local else words
        kind, verb, what, dev, name, *rest = words if words[0] != "link" else [*words[:2], "", *words[2:]]
        assert (dev, name) == ("dev", NAME), words
        if (kind, verb) == ("link", "set") and rest == ["up"]:
            if not self.up:
                self.up = True
                for each in self.addresses:
                    self._add_kernel_routes(each)
        elif (kind, verb) == ("link", "set"):
            assert rest[0] == "mtu"
            self.mtu = int(rest[1])
        elif (kind, verb) == ("addr", "replace"):
            assert rest == (["nodad"] if ":" in what else [])
            self._replace_address(what)
        elif (kind, verb) == ("addr", "del"):
            self._delete_address(what)
        elif local:
            assert rest == ["table", "local", "proto", "kernel", "scope", "host", "src", what], words
            self.hosts.add(what)
        else:
            assert kind == "route" and self.up, words
            self._route(verb, what, rest)

    def _route(self, verb: str, prefix: str, rest: list[str]) -> None:
        if verb == "del":
            if prefix not in self.routes | self.networks:
                raise Refused("No such process")
            # The first that fits, which is the kernel's own.
            (self.networks if prefix in self.networks else self.routes).remove(prefix)
        elif verb == "append":
            assert rest[:2] == ["proto", "kernel"]
            assert ":" in prefix or rest[4] == "src"
            if prefix in self.networks:
                raise Refused("File exists")
            self.networks.add(prefix)
        else:
            assert rest == ["metric", "2048"]
            assert verb == "replace" or (verb == "add" and prefix not in self.routes), prefix
            self.routes.add(prefix)

    def _add_kernel_routes(self, cidr: str) -> None:
        """Adds the kernel's routes for a new address, and for each address when the link goes up."""
        self.networks.add(_network(cidr))
        self.hosts.add(cidr.split("/")[0])

    def _replace_address(self, cidr: str) -> None:
        if cidr not in self.addresses:
            self.addresses.append(cidr)
            if self.up:
                self._add_kernel_routes(cidr)
        elif ":" in cidr and self.up:
            # addrconf puts the prefix's route back, for IPv4 nobody does.
            self.networks.add(_network(cidr))

    def _delete_address(self, cidr: str) -> None:
        if cidr not in self.addresses:
            raise Refused("Cannot assign requested address")
        network = _network(cidr)
        same = [each for each in self.addresses if _network(each) == network and ":" not in each]
        going = same if same[:1] == [cidr] else [cidr]
        self.addresses = [each for each in self.addresses if each not in going]
        hosts = {each.split("/")[0] for each in self.addresses}
        self.hosts -= {each.split("/")[0] for each in going} - hosts
        if not any(_network(each) == network for each in self.addresses):
            self.networks.discard(network)
        if ":" not in cidr and not any(":" not in each for each in self.addresses):
            self.routes = {each for each in self.routes if ":" in each}


def _network(cidr: str) -> str:
    return str(ipaddress.ip_interface(cidr).network)


def settled(
    desired: Interface, before: ObservedInterface | None, now: float
) -> dict[str, tuple[set[str], str, int]]:
    """Each peer as it should be in the end: a peer with a session that roamed keeps its endpoint."""
    result = {}
    for key, peer in desired.peers.items():
        old = before.peers.get(key) if before is not None else None
        roams = old is not None and bool(old.endpoint) and now - old.handshake < 180
        endpoint = old.endpoint if old is not None and (roams or not peer.endpoint) else peer.endpoint
        result[key] = (set(peer.allowed_ips), endpoint, peer.keepalive)
    return result
