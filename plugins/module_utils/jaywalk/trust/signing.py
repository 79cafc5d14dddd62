# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator signs next: new statements where the stored ones say something else.  Pure.

A serial is the time of the signature in seconds since 1970, or the next number if the stored one is higher.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..core import ip, validation
from ..core.errors import InvalidValue
from .lock_keys import LockKey, is_signed_by
from .statements import MAX_LOCK_KEYS, NEVER, NodeStatement, Signed, ZoneStatement, lock_key

DAY_SECONDS = 86_400
# A statement is signed anew once less than this share of its lifetime is left.
RENEW_SHARE = 2
# Ten thousand years.
MAX_SERIAL = 2**38


@dataclass(frozen=True)
class StoredNode:
    """A node as the zone has it, with the statement that is stored about it."""

    key: str
    name: str
    addresses: tuple[str, ...]
    prefixes: tuple[str, ...] = ()
    relay: bool = False
    signed: Signed | None = None

    def statement(self, zone: str) -> NodeStatement:
        """The statement that allows exactly what the zone has."""
        return NodeStatement(zone, self.key, self.name, self.addresses, self.prefixes, self.relay)


@dataclass(frozen=True)
class StoredZone:
    """A zone with all that is stored about its lock."""

    name: str
    pools: tuple[str, ...]
    signed: Signed | None = None
    nodes: Sequence[StoredNode] = field(default_factory=tuple)

    def statement(self) -> ZoneStatement | None:
        """The stored statement about the zone; None if there is none that parses."""
        try:
            return ZoneStatement.parse(self.signed.statement) if self.signed else None
        except InvalidValue:
            return None

    def lock_keys(self) -> tuple[str, ...]:
        """The keys that the stored statement names; none without one."""
        statement = self.statement()
        return () if statement is None else statement.lock_keys

    def to_json(self) -> dict[str, Any]:
        """What ``lock list --json`` prints, for whoever signs elsewhere."""
        return {
            "zone": self.name,
            "pools": list(self.pools),
            "signed": _wire(self.signed),
            "nodes": [
                {
                    "public_key": node.key,
                    "name": node.name,
                    "addresses": list(node.addresses),
                    "child_prefixes": list(node.prefixes),
                    "relay": node.relay,
                    "signed": _wire(node.signed),
                }
                for node in self.nodes
            ],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StoredZone:
        """Parses and checks :meth:`to_json`; raises ``InvalidValue``."""
        try:
            nodes = [
                StoredNode(
                    str(node["public_key"]),
                    str(node["name"]),
                    tuple(map(validation.address, node["addresses"])),
                    tuple(map(validation.child_prefix, node["child_prefixes"])),
                    bool(node["relay"]),
                    _signed(node["signed"]),
                )
                for node in value["nodes"]
            ]
            pools = tuple(validation.network(pool, "pool") for pool in value["pools"])
            return cls(validation.zone_name(value["zone"]), pools, _signed(value["signed"]), nodes)
        except (KeyError, TypeError, AttributeError):
            raise InvalidValue(
                "the zone's list of statements does not parse", "update the supervisor"
            ) from None


def without_statement(zone: StoredZone) -> StoredZone:
    """``zone`` as if no statement about it were stored."""
    return replace(zone, signed=None)


def _wire(signed: Signed | None) -> dict[str, str] | None:
    return signed.to_wire() if signed else None


def _signed(value: Any) -> Signed | None:
    return Signed.from_wire(value) if value else None


def sign_node(
    desired: NodeStatement,
    stored: Signed | None,
    key: LockKey,
    now: float,
    lifetime: int = NEVER,
    revoked: int = -1,
) -> Signed:
    """The stored statement if it says what ``desired`` says and ``key`` signed it, else a new one.

    ``lifetime`` is in seconds, 0 for never: a statement is renewed when half of it is over.  Serials up to
    ``revoked`` do not count any more.
    """
    before = _parsed_node(stored)
    if stored is not None and before is not None and is_signed_by(key.public, stored):
        same = before._replace(serial=desired.serial, expires=desired.expires) == desired
        if same and before.serial > revoked and _lasts(before.expires, now, lifetime):
            return stored
    serial = next_serial(max(revoked, before.serial if before else 0), now)
    return key.sign(desired._replace(serial=serial, expires=_end(now, lifetime)))


def sign_zone(
    desired: ZoneStatement, stored: Signed | None, key: LockKey, now: float, lifetime: int = NEVER
) -> Signed:
    """As :func:`sign_node`, for the statement about a zone."""
    before = StoredZone(desired.zone, (), stored).statement()
    if stored is not None and before is not None and is_signed_by(key.public, stored):
        same = before._replace(serial=desired.serial, expires=desired.expires) == desired
        if same and _lasts(before.expires, now, lifetime):
            return stored
    serial = next_serial(before.serial if before else 0, now)
    return key.sign(desired._replace(serial=serial, expires=_end(now, lifetime)))


def zone_wish(
    zone: StoredZone, pools: Sequence[str], key: LockKey, now: float, trusted: Sequence[str] = ()
) -> ZoneStatement:
    """The statement that a zone should have: ``pools``, and what the stored one says otherwise.

    Without a stored one all statements about nodes of before are void, since a revocation may be lost with
    it.  Raises ``InvalidValue`` if neither ``key`` nor a key of ``trusted`` signed the stored one, which then
    may be anybody's, or if ``key`` is not among the keys that sign for the zone.
    """
    before = zone.statement()
    if before is None or zone.signed is None:
        return ZoneStatement(zone.name, tuple(pools), (key.public,), least_serial=int(now))
    if not any(is_signed_by(signer, zone.signed) for signer in (key.public, *trusted)):
        raise InvalidValue(
            f"the stored statement of zone {zone.name} is signed by none of the given keys",
            "name the public key that signed it (--trusted-key), or, if somebody else wrote it, begin anew "
            "(--anew)",
        )
    if key.public not in before.lock_keys:
        raise InvalidValue(
            f"the lock key {key.public} does not sign for zone {zone.name}, whose keys are "
            f"{', '.join(before.lock_keys)}",
            "give that key, or make this one the zone's with 'jaywalk-supervisor lock rotate'",
        )
    return before._replace(pools=tuple(pools))


def revoke(before: ZoneStatement, nodes: Iterable[StoredNode], now: float) -> ZoneStatement:
    """``before`` with all revoked that was signed about ``nodes`` until now, stored or not."""
    revoked = dict(before.revoked)
    for node in nodes:
        statement = _parsed_node(node.signed)
        newest = statement.serial if statement else 0
        if newest > revoked_serial(before, node.key) or node.key not in revoked:
            revoked[node.key] = max(newest, int(now))
    return before._replace(revoked=tuple(sorted(revoked.items())))


def revoked_serial(zone: ZoneStatement | None, key: str) -> int:
    """The serial up to which statements about ``key`` do not count; -1 for none."""
    return -1 if zone is None else max(zone.least_serial - 1, dict(zone.revoked).get(key, -1))


def with_lock_keys(before: ZoneStatement, keys: Sequence[str]) -> ZoneStatement:
    """``before`` with other keys that sign from then on; raises ``InvalidValue`` for too many."""
    own = tuple(dict.fromkeys(map(lock_key, keys)))
    if len(own) > MAX_LOCK_KEYS:
        raise InvalidValue(f"{len(own)} lock keys would sign", f"name at most {MAX_LOCK_KEYS}")
    return before._replace(lock_keys=own)


def resign(zone: StoredZone, key: LockKey, signers: Sequence[str], now: float) -> list[Signed]:
    """All valid statements about nodes, word for word but their serial, signed by ``key``.

    Statements that none of ``signers`` signed are left out: what only the controller says is not signed.
    """
    found = (signed_statement(node, [one for one in signers if one != key.public]) for node in zone.nodes)
    return [
        key.sign(statement._replace(serial=next_serial(statement.serial, now)))
        for statement in found
        if statement is not None
    ]


def signed_statement(node: StoredNode, signers: Sequence[str]) -> NodeStatement | None:
    """The stored statement about ``node`` if one of ``signers`` signed it, else None."""
    statement = _parsed_node(node.signed)
    if statement is None or node.signed is None or statement.key != node.key:
        return None
    return statement if any(is_signed_by(signer, node.signed) for signer in signers) else None


def check_apart(nodes: Iterable[NodeStatement], pools: Sequence[str]) -> None:
    """Raises ``InvalidValue`` if two nodes would get the same address or prefix, or an address outside.

    Whoever signs what a supervisor assigned checks that much by itself.
    """
    networks, owners = ip.networks(pools), dict[str, NodeStatement]()
    for node in nodes:
        for allowed in (*node.addresses, *node.prefixes):
            other = owners.setdefault(allowed, node)
            if other.key != node.key:
                raise InvalidValue(
                    f"both {other.name} and {node.name} would be signed with {allowed}",
                    "give each its own, and see why the supervisor assigned it twice",
                )
        for host in node.addresses:
            if ip.holding(networks, host) is None:
                raise InvalidValue(
                    f"the address {host} of {node.name} lies outside of {', '.join(pools)}",
                    "see why the supervisor assigned it",
                )


def next_serial(before: int, now: float) -> int:
    """The serial of a new statement: the time, or one more than before.

    A number that no time comes to is a thief's: the recovery key, whose serials count alone, begins anew.
    """
    return max(int(now), before + 1) if before < MAX_SERIAL else int(now)


def _parsed_node(signed: Signed | None) -> NodeStatement | None:
    try:
        return NodeStatement.parse(signed.statement) if signed else None
    except InvalidValue:
        return None


def _end(now: float, lifetime: int) -> int:
    return int(now) + lifetime if lifetime else NEVER


def _lasts(expires: int, now: float, lifetime: int) -> bool:
    if not lifetime or not expires:
        return not lifetime and not expires
    return expires - now > lifetime / RENEW_SHARE
