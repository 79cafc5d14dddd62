# SPDX-License-Identifier: GPL-3.0-or-later
"""What a zone consists of, typed and checked at both ends: its pools, its peers, their leases.

Each model turns into plain JSON by ``to_wire`` and comes back by ``from_wire``, which raises
``InvalidValue`` on anything that is not exactly such a thing.  Times are seconds since 1970.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from ..core import ip, key_format, validation
from ..core.errors import InvalidValue
from . import codec
from . import policy as policies
from .policy import Policy

SCHEMA = 1
MAX_PREFIXES = 64
MAX_REQUESTED = 8
MAX_LOCAL = 8
MOST_REV = 10**15
"""As the zone's own position is read (see :mod:`.marks`)."""
"""Addresses of a node beside its endpoint."""
_SELDOM = frozenset("floyxhkq")
"""The letters of the fields that a plain open node's record lacks."""


@dataclass(frozen=True)
class Zone:
    """A tenant: its name and its own address pools, which may equal another zone's."""

    name: str
    pools: tuple[str, ...]
    description: str = ""
    policy: Policy = policies.DEFAULT

    @classmethod
    def checked(
        cls, name: object, pools: Sequence[object], description: str = "", policy: Policy = policies.DEFAULT
    ) -> Zone:
        """A zone from a person's words: every pool normalised, none overlapping, at least one."""
        networks = [validation.network(pool, "pool") for pool in pools]
        for index, pool in enumerate(networks):
            other = ip.overlapping(ip.networks(networks[:index]), pool)
            if other is not None:
                raise InvalidValue(f"the pools {pool} and {other} overlap", "give each address to one pool")
        if not networks:
            raise InvalidValue(f"the zone {name} has no pool", "give --cidr, --cidr6 or both")
        for excluded in policy.excluded:
            first, length = excluded.split("/")
            around = ip.holding(ip.networks(networks), first)
            if around is None or int(length) < around.prefixlen:
                raise InvalidValue(
                    f"the excluded network {excluded} lies in no pool of zone {name}",
                    f"give a part of {', '.join(networks)}",
                )
        printable = "".join(letter for letter in description if letter.isprintable())[:200]
        return cls(validation.zone_name(name), tuple(networks), printable, policy)

    @classmethod
    def from_wire(cls, name: str, meta: Mapping[str, str]) -> Zone:
        """A zone from its ``{zone}:meta`` hash."""
        pools = codec.parsed(meta.get("pools", ""), list, f"the pools of zone {name}")
        policy = Policy.from_wire(meta.get("policy", ""))
        return cls.checked(name, pools, meta.get("description", ""), policy)

    def to_wire(self) -> dict[str, str]:
        """The zone's own fields of ``{zone}:meta``."""
        return {
            "pools": json.dumps(list(self.pools)),
            "description": self.description,
            "policy": self.policy.to_wire(),
        }

    @cached_property
    def networks(self) -> tuple[ip.Network, ...]:
        """The pools, ready for arithmetic."""
        return tuple(ip.networks(self.pools))

    @cached_property
    def _bounds(self) -> tuple[tuple[int, bytes, bytes], ...]:
        """Bytes of an address, first and last one of each pool: all addresses are held against them."""
        return tuple(
            (each.max_prefixlen // 8, each.network_address.packed, each.broadcast_address.packed)
            for each in self.networks
        )

    def holds(self, host: str) -> bool:
        """Whether ``host``, an address that was checked before, lies in a pool."""
        number = ip.packed(host)
        found = [
            size for size, first, last in self._bounds if size == len(number) and first <= number <= last
        ]
        return bool(found)

    def prefix_length(self, host: str) -> int | None:
        """The length of the pool that ``host`` lies in, or None if it lies in none."""
        pool = ip.holding(self.networks, host)
        return None if pool is None else pool.prefixlen


class Peer(NamedTuple):
    """A node in a zone, identified by its public key; one value of the hash ``{zone}:peers``.

    ``endpoint`` is what the node says of itself, ``fixed`` that its operator said so; ``local`` are its other
    addresses, on the same port.  ``observed`` is where reachable peers see it, empty where that is
    ``endpoint``, and ``symmetric`` tells that its NAT shows each of them another port.  A relay has the port
    of its second interface in ``relay``, others 0.
    ``since`` is when it got its addresses.  ``host`` is the name under which an operator reserved them, and
    ``kept`` are those of its prefixes that are the operator's and not the node's to give up.
    ``asked`` is the name that it asked for, where another node has that and it is called otherwise.

    A tuple, since every node makes one of each record, and a frozen dataclass takes three times as long.
    """

    key: str
    name: str
    addresses: tuple[str, ...]
    prefixes: tuple[str, ...] = ()
    endpoint: str = ""
    fixed: bool = False
    local: tuple[str, ...] = ()
    observed: str = ""
    symmetric: bool = False
    relay: int = 0
    seq: int = 0
    rev: int = 0
    instance: str = ""
    since: int = 0
    host: str = ""
    kept: tuple[str, ...] = ()
    asked: str = ""

    def to_wire(self) -> dict[str, Any]:
        """Letters for names, since every peer reads every record: ten thousand by ten thousand of them."""
        fields: dict[str, Any] = {"n": self.name, "a": list(self.addresses), "s": self.seq, "r": self.rev}
        optional = {"p": list(self.prefixes), "e": self.endpoint, "m": self.instance}
        return _with_given(fields, {**optional, **_reachability(self), **_provenance(self)})

    @classmethod
    def from_wire(cls, key: object, record: object, zone: Zone) -> Peer:
        """A record as a node accepts it: addresses in the zone's pools, prefixes outside of them."""
        data = codec.mapping(record, "a peer")
        peer = cls(
            key=key_format.public_key(key),
            name=validation.dns_label(data.get("n"), "peer's name"),
            addresses=codec.each(validation.address, data.get("a"), "addresses", MAX_REQUESTED),
            prefixes=codec.each(validation.child_prefix, data["p"], "child prefixes", MAX_PREFIXES)
            if "p" in data
            else (),
            endpoint=validation.endpoint(data["e"]) if data.get("e") else "",
            seq=codec.natural(data.get("s", 0), "seq"),
            rev=_rev(data.get("r", 0)),
            instance=validation.machine_mark(data.get("m", "")),
            since=codec.natural(data.get("i", 0), "start"),
        )
        if not _SELDOM.isdisjoint(data):
            peer = peer._replace(**_reachability_of(data), **_reserved_of(data))
        if not peer.addresses:
            raise InvalidValue(f"the peer {peer.key} has no address", "have it join again")
        for host in peer.addresses:
            if not zone.holds(host):
                raise InvalidValue(f"the address {host} of peer {peer.name} lies outside the zone's pools")
        for prefix in peer.prefixes:
            if ip.overlapping(zone.networks, prefix) is not None:
                raise InvalidValue(f"the child prefix {prefix} of peer {peer.name} overlaps the zone's pools")
        return peer

    @property
    def state(self) -> str:
        """The state of its lease."""
        return "active"

    @property
    def allowed_ips(self) -> tuple[str, ...]:
        """What may come from and go to this peer: its own addresses and its child prefixes."""
        return (*map(ip.host_prefix, self.addresses), *self.prefixes)


@dataclass(frozen=True)
class Lease:
    """The addresses and prefixes given to a key; sticky: ``released`` keeps them for its return.

    ``released`` is the time of leaving, None while the peer is in the mesh, and 0 for a reservation that
    an operator made and that waits for its node.
    """

    key: str
    name: str
    addresses: tuple[str, ...]
    prefixes: tuple[str, ...] = ()
    released: float | None = None
    seq: int = 0
    since: int = 0
    host: str = ""
    kept: tuple[str, ...] = ()
    asked: str = ""

    def to_wire(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"n": self.name, "a": list(self.addresses), "s": self.seq}
        if self.prefixes:
            fields["p"] = list(self.prefixes)
        if self.released is not None:
            fields["t"] = self.released
        return _with_given(fields, _provenance(self))

    @classmethod
    def from_wire(cls, key: object, record: object) -> Lease:
        data = codec.mapping(record, "a lease")
        released = data.get("t")
        if released is not None and not codec.is_time(released):
            raise InvalidValue(f"the release time {validation.shown(released)} of a lease is no time")
        addresses = codec.each(validation.address, data.get("a"), "addresses", MAX_REQUESTED)
        if not addresses:
            raise InvalidValue("a lease has no address")
        return cls(
            key=key_format.public_key(key),
            name=validation.dns_label(data.get("n"), "lease's name"),
            addresses=addresses,
            prefixes=codec.each(validation.child_prefix, data["p"], "child prefixes", MAX_PREFIXES)
            if "p" in data
            else (),
            released=released,
            seq=codec.natural(data.get("s", 0), "seq"),
            since=codec.natural(data.get("i", 0), "start"),
            **({} if _SELDOM.isdisjoint(data) else _reserved_of(data)),
        )

    @property
    def state(self) -> str:
        """``active`` in the mesh, ``reserved`` by an operator, ``released`` after leaving."""
        if self.released is None:
            return "active"
        return "released" if self.released else "reserved"


def lease_of(peer: Peer) -> Lease:
    """The lease of a peer that is in the mesh: it follows from the peer's record."""
    return Lease(
        peer.key,
        peer.name,
        peer.addresses,
        peer.prefixes,
        released=None,
        seq=peer.seq,
        since=peer.since,
        host=peer.host,
        kept=peer.kept,
        asked=peer.asked,
    )


def reservation_key(name: str) -> str:
    """The key under which a reservation for the host ``name`` waits for the host's own.

    A hash in the place of a Curve25519 point: nobody has its private key.
    """
    return base64.b64encode(hashlib.sha256(f"jaywalk reservation {name}".encode()).digest()).decode()


def _reachability(peer: Peer) -> dict[str, Any]:
    """The fields of a peer that is no plain open node."""
    return {
        "f": int(peer.fixed),
        "l": list(peer.local),
        "o": peer.observed,
        "y": int(peer.symmetric),
        "x": peer.relay,
    }


def _reachability_of(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "fixed": bool(codec.natural(data.get("f", 0), "mark of a fixed endpoint")),
        "local": codec.each(validation.local_address, data.get("l", []), "local addresses", MAX_LOCAL),
        "observed": validation.endpoint(data["o"]) if data.get("o") else "",
        "symmetric": bool(codec.natural(data.get("y", 0), "mark of a symmetric NAT")),
        "relay": validation.port(data["x"], "relay's port") if data.get("x") else 0,
    }


def _provenance(held: Peer | Lease) -> dict[str, Any]:
    """The fields that most records lack, so that they cost nothing there."""
    return {"i": held.since, "h": held.host, "k": list(held.kept), "q": held.asked}


def _rev(value: object) -> int:
    """A revision; readers leave aside what is older than it, so one that was never given out is none."""
    rev = codec.natural(value, "rev")
    if rev >= MOST_REV:
        raise InvalidValue(f"the rev {rev} is none that a zone comes to", "have the peer join again")
    return rev


def _with_given(fields: dict[str, Any], optional: dict[str, Any]) -> dict[str, Any]:
    """Adds those of the fields that say something: most records lack most of them."""
    for name, value in optional.items():
        if value:
            fields[name] = value
    return fields


def _reserved_of(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "host": validation.dns_label(data["h"], "host's name") if data.get("h") else "",
        "kept": codec.each(validation.child_prefix, data.get("k", []), "reserved prefixes", MAX_PREFIXES),
        "asked": validation.dns_label(data["q"], "name that was asked for") if data.get("q") else "",
    }
