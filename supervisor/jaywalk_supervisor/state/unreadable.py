# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of a zone that do not parse: the addresses and prefixes that can be read from them stay allocated.

Such a record was corrupted by hand or written by a newer version.  The key keeps each address and prefix that
can be found in the record or in the key's other record.  If one may be missing, the zone grants nothing new
of that kind to other keys.  Nothing here uses Redis.
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
# Name of a record without a name whose key is invalid too.
NAMELESS = "unreadable"
_TOKEN = re.compile(r"[0-9A-Fa-f.:/]+")
# A complete list of addresses. The last address of a truncated list may be the beginning of another one.
_LIST = re.compile(r"\[\s*((['\"])[0-9A-Fa-f.:]+\2(?:\s*,\s*(['\"])[0-9A-Fa-f.:]+\3)*)\s*\]")
# Characters that every record contains; a text without them is no truncated record but complete.
_STRUCTURE = re.compile(r"[{}\[\]'\"]")


@dataclass(frozen=True)
class Unreadable:
    """What is known of a key with a record that does not parse.

    ``hashes`` names the hashes of these records (``PEERS``, ``LEASES``), and ``reason`` is the error.
    ``lease`` holds what could be read of the key's lease, and ``held`` all addresses that it may have.
    ``unknown`` holds the IP versions of which it may have an address that cannot be read; ``prefixes_known``
    is False if it may have such prefixes.  ``covered``: the peer's record is valid and contains all that the
    lease does.
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
        """Returns the Redis keys of the records, as an operator types them."""
        return " and ".join(f"{{{zone}}}:{name}" for name in self.hashes)

    def remedy(self, zone: str) -> str:
        """Returns how to repair the record."""
        if self.covered:
            return "its peer's own record is valid: the next change of that peer writes it again"
        if not key_format.is_key(self.key):
            return f"restore it, or remove it by hand ('HDEL {{{zone}}}:{self.hashes[0]} KEY')"
        return (
            "restore it, or have an operator release that key (module jaywalk_lease with state: absent, or "
            "by REST DELETE /ipam/leases/ZONE/KEY); its own node repairs it by joining again, as its agent "
            "does when it starts"
        )

    def message(self, zone: str) -> str:
        """Returns the error and its remedy as a sentence."""
        return (
            f"the record of {validation.shown(self.key)} in {self.redis_keys(zone)} "
            f"cannot be read ({self.reason}): {self.remedy(zone)}"
        )

    def to_json(self, zone: str) -> dict[str, Any]:
        """Returns the JSON value for ``zone show --json`` and ``/healthz``."""
        return {
            "public_key": validation.shown(self.key)[1:-1],
            "hashes": [f"{{{zone}}}:{name}" for name in self.hashes],
            "reason": self.reason,
            "held": [*self.held, *self.lease.prefixes],
            "blocks": self.blocks,
            "remedy": self.remedy(zone),
            "error": self.message(zone),
        }

    @property
    def blocks(self) -> list[str]:
        """What the zone does not grant while this record exists."""
        blocked = [f"new IPv{version} addresses" for version in sorted(self.unknown)]
        return blocked if self.prefixes_known else [*blocked, "new child prefixes"]


@dataclass(frozen=True)
class _Found:
    """What one text contains: valid ``fields`` of a lease, and the addresses and prefixes found in it.

    ``all_addresses`` and ``all_prefixes``: whether these are certainly all that the text ever contained.
    ``known`` holds the IP versions of certain addresses.
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
    """Parses a key's records; returns its peer, its lease, and a mark if a record does not parse.

    ``known`` is the key's lease if a supervisor knows it from an earlier state.
    """
    peer, peer_reason = _peer(zone, key, peer_text)
    if peer is not None:
        lease = lease_of(peer)
        reason = _lease_reason(zone, key, lease_text, lease)
        if not reason:
            return peer, lease, None
        mark = Unreadable(key, (LEASES,), reason, lease, lease.addresses, covered=True)
        return peer, lease, _with_readable_parts(zone, mark, [lease_text or ""], lease)
    found, lease_reason = _lease(zone, key, lease_text)
    if found is not None and not peer_reason:
        return None, found, None
    hashes = tuple(name for name, why in ((PEERS, peer_reason), (LEASES, lease_reason)) if why)
    mark = _with_readable_parts(
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
    """Returns why a peer's lease record does not parse; mostly it is equal to the peer's ``lease``."""
    if text is None or _decoded(text) == lease.to_wire():
        return ""
    return _lease(zone, key, text)[1]


def _decoded(text: str) -> Any:
    try:
        return codec.decoded(text)
    except (ValueError, RecursionError):
        return None


def _with_readable_parts(zone: Zone, mark: Unreadable, texts: list[str], certain: Lease | None) -> Unreadable:
    """Returns ``mark`` with all of ``certain`` and what can be read from the corrupted ``texts``."""
    found = [_found(zone, text) for text in texts]
    addresses = dict.fromkeys(address for text in found for address in text.addresses)
    if certain is not None:
        held = dict.fromkeys((*certain.addresses, *addresses))
        return replace(mark, lease=replace(certain, released=None), held=tuple(held))
    of_versions = {ip.version_of(address): address for address in reversed(addresses)}
    complete = any(text.all_addresses for text in found)
    unknown = {ip.version_of(pool) for pool in zone.pools}.difference(*(text.known for text in found))
    fields = {name: value for text in reversed(found) for name, value in text.fields.items()}
    prefixes = dict.fromkeys(prefix for text in found for prefix in text.prefixes)
    lease = replace(
        mark.lease, addresses=tuple(of_versions.values()), prefixes=tuple(prefixes)[:MAX_PREFIXES], **fields
    )
    return replace(
        mark,
        lease=lease,
        held=tuple(addresses),
        unknown=frozenset() if complete else frozenset(unknown),
        prefixes_known=any(text.all_prefixes for text in found),
    )


def _found(zone: Zone, text: str) -> _Found:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    fields = dict(_fields(zone, data)) if isinstance(data, dict) else {}
    prefixes = fields.pop("prefixes", None)
    certain = fields.pop("addresses", ()) or _first_complete_list(zone, text)
    tokens = dict.fromkeys(_TOKEN.findall(text))
    found = certain or tuple(dict.fromkeys(_addresses(zone, tokens)))
    return _Found(
        fields,
        found,
        frozenset() if _STRUCTURE.search(text) and not certain else frozenset(map(ip.version_of, found)),
        bool(certain),
        tuple(dict.fromkeys(_prefixes(zone, tokens))) if prefixes is None else prefixes,
        prefixes is not None,
    )


def _first_complete_list(zone: Zone, text: str) -> tuple[str, ...]:
    """Returns the first complete list in ``text`` that contains only addresses of the zone."""
    for match in _LIST.finditer(text):
        tokens = _TOKEN.findall(match.group(1))
        addresses = tuple(dict.fromkeys(_addresses(zone, tokens)))
        if len(addresses) == len(tokens):
            return addresses
    return ()


def _fields(zone: Zone, data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields of a lease that are valid each on its own, in a record that is invalid as a whole."""
    for name, value in Lease.valid_fields(data):
        # Only a damaged record has addresses outside the zone's pools.
        if name != "released" and (name != "addresses" or all(map(zone.contains, value))):
            yield name, value


def _addresses(zone: Zone, tokens: Iterable[str]) -> Iterator[str]:
    for token in tokens:
        try:
            address = validation.address(token.removesuffix("/32").removesuffix("/128"))
        except InvalidValue:
            continue
        if zone.contains(address):
            yield address


def _prefixes(zone: Zone, tokens: Iterable[str]) -> Iterator[str]:
    for token in tokens:
        try:
            prefix = validation.child_prefix(token) if "/" in token else ""
        except InvalidValue:
            continue
        if prefix and ip.overlapping(zone.networks, prefix) is None:
            yield prefix


def _unknown_lease(key: str) -> Lease:
    return Lease(key, key_format.default_name(key) if key_format.is_key(key) else NAMELESS, ())
