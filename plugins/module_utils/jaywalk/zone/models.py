# SPDX-License-Identifier: GPL-3.0-or-later
"""The models of a zone: its pools, its peers, their leases.

``to_wire`` returns plain JSON values; ``from_wire`` checks and parses them, and raises ``InvalidValue``.
Times are seconds since 1970.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from functools import cached_property
from operator import attrgetter
from typing import Any, NamedTuple

from ..core import ip, key_format, validation
from ..core.errors import InvalidValue
from ..trust.lock import Record
from ..trust.statements import Signed
from . import codec
from . import policy as policies
from .policy import Policy
from .record_fields import RecordCodec

SCHEMA = 1


@dataclass(frozen=True)
class Zone:
    """A tenant: its name, and its own address pools, which may equal another zone's.

    ``signed`` is the text of the zone's statement if a mesh lock was made (:mod:`~..trust.lock`), else "";
    only nodes check it.
    """

    name: str
    pools: tuple[str, ...]
    description: str = ""
    policy: Policy = policies.DEFAULT
    signed: str = ""

    @classmethod
    def validated(
        cls, name: object, pools: Sequence[object], description: str = "", policy: Policy = policies.DEFAULT
    ) -> Zone:
        """A zone of unchecked values: at least one pool, each normalised, none overlapping."""
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
        zone = cls.validated(name, pools, meta.get("description", ""), policy)
        return replace(zone, signed=meta["lock"]) if meta.get("lock") else zone

    def to_wire(self) -> dict[str, str]:
        """The zone's own fields of ``{zone}:meta``."""
        fields = {
            "pools": json.dumps(list(self.pools)),
            "description": self.description,
            "policy": self.policy.to_wire(),
        }
        return {**fields, "lock": self.signed} if self.signed else fields

    @cached_property
    def networks(self) -> tuple[ip.Network, ...]:
        """The pools, parsed."""
        return tuple(ip.networks(self.pools))

    @cached_property
    def _bounds(self) -> tuple[tuple[int, bytes, bytes], ...]:
        """Per pool: bytes of an address, its first and its last address."""
        return tuple(
            (network.max_prefixlen // 8, network.network_address.packed, network.broadcast_address.packed)
            for network in self.networks
        )

    def contains(self, host: str) -> bool:
        """Whether ``host``, a validated address, lies in a pool."""
        number = ip.packed(host)
        # Each node checks each address of its zone, and any() takes twice as long.
        for size, first, last in self._bounds:  # noqa: SIM110
            if size == len(number) and first <= number <= last:
                return True
        return False

    def prefix_length(self, host: str) -> int | None:
        """The prefix length of the pool that contains ``host``, or None."""
        pool = ip.holding(self.networks, host)
        return None if pool is None else pool.prefixlen


class Peer(NamedTuple):
    """A node in a zone, identified by its public key; one value of the hash ``{zone}:peers``.

    ``endpoint`` is the one that the node reports, or that its operator set (``fixed``); ``local`` are its
    other addresses, with the same port.  ``observed`` is the endpoint that reachable peers observe, empty if
    it equals ``endpoint``; ``symmetric`` means that its NAT shows each of them another port.  A relay has the
    port of its second interface in ``relay``, others 0.
    ``since`` is when it got its addresses.  ``host`` is the name for which an operator reserved them, and
    ``reserved_prefixes`` are those of its prefixes that the operator reserved, so that the node keeps them.
    ``requested_name`` is the name that it requested, if another node has that name.  ``signed`` is what the
    operator's lock key signed about the key, which nodes with a pinned lock key check.
    ``grants`` are the words of :data:`.record_fields.GRANTS` by which an operator permits what the zone's
    policy refuses to members, and ``lease`` if an operator reserved its lease.
    ``proven`` says that its node has proven that it holds the private key, and has to from then on.

    A tuple, since every agent makes one per record, and a frozen dataclass takes three times as long.
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
    machine_id: str = ""
    since: int = 0
    host: str = ""
    reserved_prefixes: tuple[str, ...] = ()
    requested_name: str = ""
    signed: Signed | None = None
    grants: tuple[str, ...] = ()
    proven: bool = False

    def to_wire(self) -> dict[str, Any]:
        """The record as a JSON object (:mod:`.record_fields`)."""
        return _PEER.write(self)

    @classmethod
    def from_wire(cls, key: object, record: object, zone: Zone) -> Peer:
        """Parses a record; its addresses must lie in the zone's pools, its prefixes outside of them."""
        data = codec.mapping(record, "a peer")
        peer = cls._make(_PEER.read(key_format.public_key(key), data))
        if not peer.addresses:
            raise InvalidValue(f"the peer {peer.key} has no address", "have it join again")
        for host in peer.addresses:
            if not zone.contains(host):
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
    def lock_record(self) -> Record:
        """The parts that a signed statement covers."""
        return Record(self.key, self.name, self.addresses, self.prefixes, bool(self.relay), self.signed)

    @property
    def allowed_ips(self) -> tuple[str, ...]:
        """The allowed IPs of this peer: its own addresses and its child prefixes."""
        return (*map(ip.host_prefix, self.addresses), *self.prefixes)


@dataclass(frozen=True)
class Lease:
    """The addresses and prefixes of a key, which a released lease keeps for its return.

    ``released`` is the time of the leave, None while the peer is in the mesh, and 0 for an operator's
    reservation whose node did not join yet.  The other fields are those of :class:`Peer`.
    """

    key: str
    name: str
    addresses: tuple[str, ...]
    prefixes: tuple[str, ...] = ()
    released: float | None = None
    seq: int = 0
    since: int = 0
    host: str = ""
    reserved_prefixes: tuple[str, ...] = ()
    requested_name: str = ""
    signed: Signed | None = None
    grants: tuple[str, ...] = ()
    proven: bool = False

    def to_wire(self) -> dict[str, Any]:
        """The record as a JSON object (:mod:`.record_fields`)."""
        return _LEASE.write(_lease_values(self))

    @classmethod
    def from_wire(cls, key: object, record: object) -> Lease:
        """A lease from its record; raises ``InvalidValue``."""
        lease = cls(*_LEASE.read(key_format.public_key(key), codec.mapping(record, "a lease")))
        if not lease.addresses:
            raise InvalidValue("a lease has no address")
        return lease

    @staticmethod
    def valid_fields(data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """The attributes by name that are valid each on its own, in a record that is invalid as a whole."""
        return _LEASE.read_valid(data)

    @property
    def state(self) -> str:
        """``active`` in the mesh, ``reserved`` by an operator, ``released`` after leaving."""
        if self.released is None:
            return "active"
        return "released" if self.released else "reserved"

    @property
    def is_operators(self) -> bool:
        """Whether an operator reserved it, so that it does not count as one that a member took by itself."""
        reserved = self.released == 0 or self.host or self.reserved_prefixes
        return bool(reserved or self.grants or self.has_placeholder_key)

    @property
    def is_unclaimed(self) -> bool:
        """Whether it is the reservation for a host that did not join yet."""
        return bool(self.host) and self.key == reservation_key(self.host)

    @property
    def has_placeholder_key(self) -> bool:
        """Whether no node has its key yet: a reservation by name, or an imported address."""
        return self.key == reservation_key(self.name)


_PEER = RecordCodec(Peer._fields, Peer._field_defaults)
_LEASE_FIELDS = [item.name for item in fields(Lease)]
_LEASE = RecordCodec(
    _LEASE_FIELDS, {item.name: item.default for item in fields(Lease) if item.default is not MISSING}
)
_lease_values = attrgetter(*_LEASE_FIELDS)


def lease_of(peer: Peer) -> Lease:
    """The lease of a peer in the mesh, which follows from its record."""
    return Lease(**{name: getattr(peer, name) for name in _LEASE_FIELDS if name != "released"})


def reservation_key(name: str) -> str:
    """The placeholder key of a reservation for the host ``name``, until the host joins with its own key.

    A hash instead of a Curve25519 point: nobody has its private key.
    """
    return base64.b64encode(hashlib.sha256(f"jaywalk reservation {name}".encode()).digest()).decode()
