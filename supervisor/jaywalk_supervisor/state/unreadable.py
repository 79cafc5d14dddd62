# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of a zone that do not parse: what can still be read of them stays taken.

Somebody spoilt such a record by hand, or a newer version wrote it.  The key keeps each address and each
prefix that can be found, in the record or in the key's other one, and where one may be missing the zone gives
nothing new of that kind to others.  Nothing here talks to Redis.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jaywalk.core import ip, key_format, validation
from jaywalk.core.errors import InvalidValue
from jaywalk.zone import codec
from jaywalk.zone.models import Lease, Peer, Zone, lease_of
from jaywalk.zone.record_fields import MAX_PREFIXES

PEERS = "peers"
LEASES = "leases"
# What a record without a name is called whose key is none either.
NAMELESS = "unreadable"
_WORD = re.compile(r"[0-9A-Fa-f.:/]+")
# A whole list of addresses. One in a list without its end may be the beginning of another.
_LIST = re.compile(r"\[\s*((['\"])[0-9A-Fa-f.:]+\2(?:\s*,\s*(['\"])[0-9A-Fa-f.:]+\3)*)\s*\]")
# What every record of ours has, so that a text without it is none, and was written as a whole.
_STRUCTURE = re.compile(r"[{}\[\]'\"]")


@dataclass(frozen=True)
class Unreadable:
    """What is known of a key of which a record does not parse.

    ``hashes`` tells which (``PEERS``, ``LEASES``), and ``reason`` why.  ``lease`` is what the key has as far
    as that can be read, and ``held`` are all addresses that it may have.  ``unknown`` are the IP versions of
    which it may have an address that cannot be read; ``prefixes_known`` is False where that goes for
    prefixes.  ``covered``: the peer's own record is good, which says all that its lease says.
    """

    key: str
    hashes: tuple[str, ...]
    reason: str
    lease: Lease
    held: tuple[str, ...]
    unknown: frozenset[int] = frozenset()
    prefixes_known: bool = True
    covered: bool = False

    def redis_keys(self, zone: str) -> str:
        """The Redis keys of the records, as an operator types them."""
        return " and ".join(f"{{{zone}}}:{each}" for each in self.hashes)

    def remedy(self, zone: str) -> str:
        """How the record is mended."""
        if self.covered:
            return "its peer's own record is good: the next change of that peer writes it anew"
        if not key_format.is_key(self.key):
            return f"restore it, or remove it by hand ('HDEL {{{zone}}}:{self.hashes[0]} KEY')"
        return (
            "restore it, or have an operator release that key (module jaywalk_lease with state: absent, or "
            "by REST DELETE /ipam/leases/ZONE/KEY); its own node mends it by joining again, as its agent "
            "does when it starts"
        )

    def message(self, zone: str) -> str:
        """What is wrong and what to do, for logs and people."""
        return (
            f"the record of {validation.shown(self.key)} in {self.redis_keys(zone)} "
            f"cannot be read ({self.reason}): {self.remedy(zone)}"
        )

    def to_json(self, zone: str) -> dict[str, Any]:
        """As ``zone show --json`` and ``/healthz`` have it."""
        return {
            "public_key": validation.shown(self.key)[1:-1],
            "hashes": [f"{{{zone}}}:{each}" for each in self.hashes],
            "reason": self.reason,
            "held": [*self.held, *self.lease.prefixes],
            "blocks": self.blocks,
            "remedy": self.remedy(zone),
            "error": self.message(zone),
        }

    @property
    def blocks(self) -> list[str]:
        """What the zone gives to nobody while this record is there."""
        blocked = [f"new IPv{version} addresses" for version in sorted(self.unknown)]
        return blocked if self.prefixes_known else [*blocked, "new child prefixes"]


@dataclass(frozen=True)
class _Found:
    """What one text holds: valid ``fields`` of a lease, and the addresses and prefixes found, with whether
    these are surely all that the text ever held.  ``known`` are the IP versions of sure addresses.
    """

    fields: Mapping[str, Any]
    addresses: tuple[str, ...]
    known: frozenset[int]
    all_addresses: bool
    prefixes: tuple[str, ...]
    all_prefixes: bool


def read(
    zone: Zone, key: str, peer_text: str | None, lease_text: str | None, known: Lease | None = None
) -> tuple[Peer | None, Lease, Unreadable | None]:
    """A key's records, parsed, and what is wrong with them.

    ``known`` is what the key surely has, where a supervisor knows it from before.
    """
    peer, peer_reason = _peer(zone, key, peer_text)
    if peer is not None:
        lease = lease_of(peer)
        reason = _lease_reason(zone, key, lease_text, lease)
        if not reason:
            return peer, lease, None
        mark = Unreadable(key, (LEASES,), reason, lease, lease.addresses, covered=True)
        return peer, lease, _salvaged(zone, mark, [lease_text or ""], lease)
    found, lease_reason = _lease(zone, key, lease_text)
    if found is not None and not peer_reason:
        return None, found, None
    hashes = tuple(name for name, why in ((PEERS, peer_reason), (LEASES, lease_reason)) if why)
    mark = _salvaged(
        zone,
        Unreadable(key, hashes, peer_reason or lease_reason, _unknown_lease(key), ()),
        [text for text, why in ((lease_text, lease_reason), (peer_text, peer_reason)) if text and why],
        found or known,
    )
    return None, mark.lease, mark


def _peer(zone: Zone, key: str, text: str | None) -> tuple[Peer | None, str]:
    if text is None:
        return None, ""
    try:
        return Peer.from_wire(key, text, zone), ""
    except InvalidValue as error:
        return None, error.problem


def _lease(zone: Zone, key: str, text: str | None) -> tuple[Lease | None, str]:
    if text is None:
        return None, ""
    try:
        lease = Lease.from_wire(key, text)
    except InvalidValue as error:
        return None, error.problem
    outside = next((host for host in lease.addresses if not zone.contains(host)), None)
    return (lease, "") if outside is None else (None, f"the address {outside} lies outside the zone's pools")


def _lease_reason(zone: Zone, key: str, text: str | None, lease: Lease) -> str:
    """Why the lease's record of a peer does not parse; it is mostly just what follows from the peer's."""
    if text is None or _decoded(text) == lease.to_wire():
        return ""
    return _lease(zone, key, text)[1]


def _decoded(text: str) -> Any:
    try:
        return codec.decoded(text)
    except (ValueError, RecursionError):
        return None


def _salvaged(zone: Zone, mark: Unreadable, texts: list[str], sure: Lease | None) -> Unreadable:
    """``mark`` with what can be read: all that ``sure`` says, and what stands in the spoilt ``texts``."""
    found = [_found(zone, text) for text in texts]
    addresses = dict.fromkeys(each for one in found for each in one.addresses)
    if sure is not None:
        held = dict.fromkeys((*sure.addresses, *addresses))
        return replace(mark, lease=replace(sure, released=None), held=tuple(held))
    of_versions = {ip.version_of(each): each for each in reversed(addresses)}
    every = any(one.all_addresses for one in found)
    unknown = {ip.version_of(pool) for pool in zone.pools}.difference(*(one.known for one in found))
    fields = {name: value for one in reversed(found) for name, value in one.fields.items()}
    prefixes = dict.fromkeys(each for one in found for each in one.prefixes)
    lease = replace(
        mark.lease, addresses=tuple(of_versions.values()), prefixes=tuple(prefixes)[:MAX_PREFIXES], **fields
    )
    return replace(
        mark,
        lease=lease,
        held=tuple(addresses),
        unknown=frozenset() if every else frozenset(unknown),
        prefixes_known=any(one.all_prefixes for one in found),
    )


def _found(zone: Zone, text: str) -> _Found:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    fields = dict(_fields(zone, data)) if isinstance(data, dict) else {}
    prefixes = fields.pop("prefixes", None)
    sure = fields.pop("addresses", ()) or _listed(zone, text)
    words = dict.fromkeys(_WORD.findall(text))
    found = sure or tuple(dict.fromkeys(_addresses(zone, words)))
    return _Found(
        fields,
        found,
        frozenset() if _STRUCTURE.search(text) and not sure else frozenset(map(ip.version_of, found)),
        bool(sure),
        tuple(dict.fromkeys(_prefixes(zone, words))) if prefixes is None else prefixes,
        prefixes is not None,
    )


def _listed(zone: Zone, text: str) -> tuple[str, ...]:
    """The addresses of the first whole list in ``text`` that holds nothing but addresses of the zone."""
    for match in _LIST.finditer(text):
        words = _WORD.findall(match.group(1))
        addresses = tuple(dict.fromkeys(_addresses(zone, words)))
        if len(addresses) == len(words):
            return addresses
    return ()


def _fields(zone: Zone, data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields of a lease that are valid each on its own, in a record that is invalid as a whole."""
    for name, value in Lease.valid_fields(data):
        # Only a damaged record has addresses outside the zone's pools.
        if name != "released" and (name != "addresses" or all(map(zone.contains, value))):
            yield name, value


def _addresses(zone: Zone, words: Iterable[str]) -> Iterator[str]:
    for word in words:
        try:
            address = validation.address(word.removesuffix("/32").removesuffix("/128"))
        except InvalidValue:
            continue
        if zone.contains(address):
            yield address


def _prefixes(zone: Zone, words: Iterable[str]) -> Iterator[str]:
    for word in words:
        try:
            prefix = validation.child_prefix(word) if "/" in word else ""
        except InvalidValue:
            continue
        if prefix and ip.overlapping(zone.networks, prefix) is None:
            yield prefix


def _unknown_lease(key: str) -> Lease:
    return Lease(key, key_format.default_name(key) if key_format.is_key(key) else NAMELESS, ())
