# SPDX-License-Identifier: GPL-3.0-or-later
"""What travels between nodes, controller and supervisors, typed and checked at both ends.

Each model turns into plain JSON by ``to_wire`` and comes back by ``from_wire``, which raises
``InvalidValue`` on anything that is not exactly such a thing.  Times are seconds since 1970.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import keys, values
from . import policy as policies
from .errors import BadRequest, InvalidValue, RequestRefused
from .policy import Policy

SCHEMA = 1
MAX_REQUEST_BYTES = 16384
MAX_PREFIXES = 64
MAX_REQUESTED = 8

_NONCE = re.compile(r"[0-9a-f]{32}")
_INSTANCE = re.compile(r"[0-9a-f]{8}")

AGENT_OPS = ("join", "leave", "endpoint")
OPERATOR_OPS = ("reserve", "release", "rekey", "show")


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
        networks = [values.network(pool, "pool") for pool in pools]
        for index, pool in enumerate(networks):
            other = values.overlapping(values.networks(networks[:index]), pool)
            if other is not None:
                raise InvalidValue(f"the pools {pool} and {other} overlap", "give each address to one pool")
        if not networks:
            raise InvalidValue(f"the zone {name} has no pool", "give --cidr, --cidr6 or both")
        printable = "".join(letter for letter in description if letter.isprintable())[:200]
        return cls(values.zone_name(name), tuple(networks), printable, policy)

    @classmethod
    def from_wire(cls, name: str, meta: Mapping[str, str]) -> Zone:
        """A zone from its ``{zone}:meta`` hash."""
        pools = _object(meta.get("pools", ""), list, f"the pools of zone {name}")
        policy = Policy.from_wire(meta.get("policy", ""))
        return cls.checked(name, pools, meta.get("description", ""), policy)

    def to_wire(self) -> dict[str, str]:
        """The zone's own fields of ``{zone}:meta``."""
        return {
            "pools": json.dumps(list(self.pools)),
            "description": self.description,
            "policy": self.policy.to_wire(),
        }

    def prefix_length(self, host: str) -> int | None:
        """The length of the pool that ``host`` lies in, or None if it lies in none."""
        pool = values.holding(values.networks(self.pools), host)
        return None if pool is None else pool.prefixlen


@dataclass(frozen=True)
class Peer:
    """A node in a zone, identified by its public key; one value of the hash ``{zone}:peers``.

    ``since`` is when it got its addresses.  ``host`` is the name under which an operator reserved them, and
    ``kept`` are those of its prefixes that are the operator's and not the node's to give up.
    """

    key: str
    name: str
    addresses: tuple[str, ...]
    prefixes: tuple[str, ...] = ()
    endpoint: str = ""
    seq: int = 0
    rev: int = 0
    instance: str = ""
    since: int = 0
    host: str = ""
    kept: tuple[str, ...] = ()

    def to_wire(self) -> dict[str, Any]:
        """Letters for names, since every peer reads every record: ten thousand by ten thousand of them."""
        wire: dict[str, Any] = {"n": self.name, "a": list(self.addresses), "s": self.seq, "r": self.rev}
        if self.prefixes:
            wire["p"] = list(self.prefixes)
        if self.endpoint:
            wire["e"] = self.endpoint
        if self.instance:
            wire["m"] = self.instance
        return {**wire, **_provenance(self)}

    @classmethod
    def from_wire(cls, key: object, wire: object, zone: Zone) -> Peer:
        """A record as a node accepts it: addresses in the zone's pools, prefixes outside of them."""
        data = _mapping(wire, "a peer")
        pools = values.networks(zone.pools)
        peer = cls(
            key=keys.public_key(key),
            name=values.dns_label(data.get("n"), "peer's name"),
            addresses=_each(values.address, data.get("a"), "addresses", MAX_REQUESTED),
            prefixes=_each(values.child_prefix, data.get("p", []), "child prefixes", MAX_PREFIXES),
            endpoint=values.endpoint(data["e"]) if data.get("e") else "",
            seq=_natural(data.get("s", 0), "seq"),
            rev=_natural(data.get("r", 0), "rev"),
            instance=_instance(data.get("m", "")),
            **_provenance_of(data),
        )
        if not peer.addresses:
            raise InvalidValue(f"the peer {peer.key} has no address", "have it join again")
        for host in peer.addresses:
            if values.holding(pools, host) is None:
                raise InvalidValue(f"the address {host} of peer {peer.name} lies outside the zone's pools")
        for prefix in peer.prefixes:
            if values.overlapping(pools, prefix) is not None:
                raise InvalidValue(f"the child prefix {prefix} of peer {peer.name} overlaps the zone's pools")
        return peer

    @property
    def allowed_ips(self) -> tuple[str, ...]:
        """What may come from and go to this peer: its own addresses and its child prefixes."""
        return tuple(values.host_prefix(host) for host in self.addresses) + self.prefixes


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

    def to_wire(self) -> dict[str, Any]:
        wire: dict[str, Any] = {"n": self.name, "a": list(self.addresses), "s": self.seq}
        if self.prefixes:
            wire["p"] = list(self.prefixes)
        if self.released is not None:
            wire["t"] = self.released
        return {**wire, **_provenance(self)}

    @classmethod
    def from_wire(cls, key: object, wire: object) -> Lease:
        data = _mapping(wire, "a lease")
        released = data.get("t")
        if released is not None and not _is_time(released):
            raise InvalidValue(f"the release time {values.shown(released)} of a lease is no time")
        return cls(
            key=keys.public_key(key),
            name=values.dns_label(data.get("n"), "lease's name"),
            addresses=_each(values.address, data.get("a"), "addresses", MAX_REQUESTED),
            prefixes=_each(values.child_prefix, data.get("p", []), "child prefixes", MAX_PREFIXES),
            released=released,
            seq=_natural(data.get("s", 0), "seq"),
            **_provenance_of(data),
        )

    @property
    def state(self) -> str:
        """``active`` in the mesh, ``reserved`` by an operator, ``released`` after leaving."""
        if self.released is None:
            return "active"
        return "released" if self.released else "reserved"


def new_nonce() -> str:
    """128 random bits in hex: whoever knows it may read the answer."""
    return secrets.token_hex(16)


def new_seq() -> int:
    """A number that grows with each request of a node: microseconds since 1970."""
    return time.time_ns() // 1000


@dataclass(frozen=True)
class Request:
    """What a node (``{zone}:inbox``) or an operator (``{zone}:orders``) asks of the supervisors.

    ``request_ip`` holds at most one address a pool, ``child_prefixes`` is the whole list that the peer
    announces; in a ``release`` those to give back, the lease itself staying.  An operator's request may have
    an empty ``key`` and mean the host called ``name``.  ``nonce`` names the answer, ``seq`` orders the
    requests of one key.  ``notes`` say what became of values that were not in their canonical spelling.
    """

    op: str
    zone: str
    key: str
    name: str = ""
    request_ip: tuple[str, ...] = ()
    child_prefixes: tuple[str, ...] = ()
    endpoint: str = ""
    nonce: str = field(default_factory=new_nonce)
    seq: int = field(default_factory=new_seq)
    instance: str = ""
    notes: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def checked(
        cls,
        op: str,
        zone: object,
        key: object,
        name: str = "",
        request_ip: Sequence[object] = (),
        child_prefixes: Sequence[object] = (),
        endpoint: str = "",
        instance: object = "",
    ) -> Request:
        """A request from a person's or a node's words, each of them checked."""
        return cls(
            op=op,
            zone=values.zone_name(zone),
            key="" if op in OPERATOR_OPS and name and not key else keys.public_key(key),
            name=values.dns_label(name) if name else "",
            request_ip=_each(_requested, list(request_ip), "requested addresses", MAX_REQUESTED),
            child_prefixes=_each(values.child_prefix, list(child_prefixes), "child prefixes", MAX_PREFIXES),
            endpoint=values.endpoint(endpoint) if endpoint else "",
            instance=_instance(instance),
            notes=_normalised(child_prefixes),
        )

    def to_wire(self) -> str:
        wire: dict[str, Any] = {
            "v": SCHEMA,
            "op": self.op,
            "zone": self.zone,
            "key": self.key,
            "nonce": self.nonce,
            "seq": self.seq,
        }
        optional: dict[str, Any] = {
            "name": self.name,
            "request_ip": list(self.request_ip),
            "child_prefixes": list(self.child_prefixes),
            "endpoint": self.endpoint,
            "instance": self.instance,
        }
        wire.update({name: value for name, value in optional.items() if value})
        return json.dumps(wire, separators=(",", ":"))

    @classmethod
    def from_wire(cls, text: str, zone: str, ops: Sequence[str]) -> Request:
        """A request as a supervisor takes it from the list of ``zone`` where ``ops`` may be asked for."""
        data = _envelope(text, zone, ops)
        request = cls.checked(
            op=data["op"],
            zone=zone,
            key=data.get("key"),
            name=_text(data.get("name", ""), "name"),
            request_ip=_list(data.get("request_ip", []), "requested addresses"),
            child_prefixes=_list(data.get("child_prefixes", []), "child prefixes"),
            endpoint=_text(data.get("endpoint", ""), "endpoint"),
            instance=data.get("instance", ""),
        )
        return _with(request, nonce=nonce_of(data), seq=_natural(data.get("seq"), "seq"))


def _envelope(text: str, zone: str, ops: Sequence[str]) -> dict[str, Any]:
    """A request's fields, once it is one for ``zone``; raises ``BadRequest`` with the reason."""
    if len(text) > MAX_REQUEST_BYTES:
        raise BadRequest(
            "too-large", f"the request has {len(text)} bytes", f"send at most {MAX_REQUEST_BYTES}"
        )
    try:
        data: dict[str, Any] = _object(text, dict, "the request")
    except InvalidValue as error:
        raise BadRequest("not-json", error.problem, error.remedy) from None
    if data.get("v") != SCHEMA or data["v"] is True:
        raise BadRequest(
            "version", f"the request has version {values.shown(data.get('v'))}", f"send version {SCHEMA}"
        )
    if data.get("zone") != zone:
        raise BadRequest(
            "zone", f"the request is for zone {values.shown(data.get('zone'))}", f"this is zone {zone}"
        )
    if data.get("op") not in ops:
        raise BadRequest(
            "operation",
            f"the operation {values.shown(data.get('op'))} is unknown here",
            f"use one of {', '.join(ops)}",
        )
    return data


def nonce_of(data: Mapping[str, Any]) -> str:
    """The nonce of a request that may be wrong in all else; raises ``InvalidValue``."""
    nonce = data.get("nonce")
    if isinstance(nonce, str) and _NONCE.fullmatch(nonce):
        return nonce
    raise InvalidValue("the request has no nonce", "send 32 hexadecimal digits")


def readable_nonce(text: str) -> str | None:
    """The nonce under which a request that was refused can still be answered, or None."""
    try:
        return nonce_of(_object(text[: MAX_REQUEST_BYTES + 1], dict, "the request"))
    except InvalidValue:
        return None


@dataclass(frozen=True)
class Reply:
    """The answer to one request: a lease, or why not."""

    ok: bool
    code: str = ""
    error: str = ""
    state: str = ""
    name: str = ""
    addresses: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    changed: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def granted(cls, lease: Lease, changed: bool) -> Reply:
        return cls(
            ok=True,
            state=lease.state,
            name=lease.name,
            addresses=lease.addresses,
            prefixes=lease.prefixes,
            changed=changed,
        )

    @classmethod
    def refused(cls, code: str, error: str) -> Reply:
        return cls(ok=False, code=code, error=error)

    def to_wire(self) -> str:
        if not self.ok:
            return json.dumps({"ok": False, "code": self.code, "error": self.error})
        wire = {
            "ok": True,
            "state": self.state,
            "name": self.name,
            "addresses": list(self.addresses),
            "prefixes": list(self.prefixes),
            "changed": self.changed,
        }
        if self.notes:
            wire["notes"] = list(self.notes)
        return json.dumps(wire, separators=(",", ":"))

    @classmethod
    def from_wire(cls, text: str) -> Reply:
        data = _object(text, dict, "the supervisor's answer")
        if data.get("ok") is not True:
            code, error = (_text(data.get(name, ""), name) for name in ("code", "error"))
            return cls.refused(code, error)
        return cls(
            ok=True,
            state=_text(data.get("state", ""), "state"),
            name=values.dns_label(data["name"]) if data.get("name") else "",
            addresses=_each(values.address, data.get("addresses", []), "addresses", MAX_REQUESTED),
            prefixes=_each(values.child_prefix, data.get("prefixes", []), "child prefixes", MAX_PREFIXES),
            changed=data.get("changed") is True,
            notes=_each(lambda each: _text(each, "note"), data.get("notes", []), "notes", MAX_PREFIXES),
        )

    def lease_or_raise(self) -> Reply:
        """The reply itself if it grants; raises ``RequestRefused`` with the supervisor's words if not."""
        if not self.ok:
            raise RequestRefused(self.code, self.error)
        return self


def reservation_key(name: str) -> str:
    """The key under which a reservation for the host ``name`` waits for the host's own.

    A hash in the place of a Curve25519 point: nobody has its private key.
    """
    return base64.b64encode(hashlib.sha256(f"jaywalk reservation {name}".encode()).digest()).decode()


def _provenance(held: Peer | Lease) -> dict[str, Any]:
    """The fields that most records lack, so that they cost nothing there."""
    fields = {"i": held.since, "h": held.host, "k": list(held.kept)}
    return {name: value for name, value in fields.items() if value}


def _provenance_of(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "since": _natural(data.get("i", 0), "start"),
        "host": values.dns_label(data["h"], "host's name") if data.get("h") else "",
        "kept": _each(values.child_prefix, data.get("k", []), "reserved prefixes", MAX_PREFIXES),
    }


def _normalised(prefixes: Sequence[object]) -> tuple[str, ...]:
    """A sentence for each prefix whose address bits go beyond its length."""
    return tuple(
        f"the child prefix {text} is taken as its network {network}"
        for text in prefixes
        if isinstance(text, str)
        and (network := values.network(text)).partition("/")[0] != text.partition("/")[0]
    )


def _requested(text: object) -> str:
    return values.address(text, "requested address")


def _with(request: Request, nonce: str, seq: int) -> Request:
    fields = dict(request.__dict__, nonce=nonce, seq=seq)
    return Request(**fields)


def _object(text: str, kind: type, what: str) -> Any:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidValue(f"{what} is no JSON", "send one JSON value") from None
    if not isinstance(parsed, kind):
        raise InvalidValue(f"{what} is a JSON {type(parsed).__name__}", f"send a {kind.__name__}")
    return parsed


def _mapping(wire: object, what: str) -> Mapping[str, Any]:
    if isinstance(wire, str):
        wire = _object(wire, dict, what)
    if not isinstance(wire, dict):
        raise InvalidValue(f"{what} is no JSON object")
    return wire


def _list(value: object, what: str) -> list[object]:
    if isinstance(value, list):
        return value
    raise InvalidValue(f"the {what} are no list", "send a JSON list")


def _each(check: Any, value: object, what: str, limit: int) -> tuple[str, ...]:
    items = _list(value, what)
    if len(items) > limit:
        raise InvalidValue(f"there are {len(items)} {what}", f"send at most {limit}")
    return tuple(dict.fromkeys(check(item) for item in items))


def _text(value: object, what: str) -> str:
    if isinstance(value, str) and value.isprintable():
        return value
    raise InvalidValue(f"the {what} is no printable text", "send a string")


def _instance(value: object) -> str:
    """The mark of a machine, by which two that have the same key are told apart; empty for none."""
    if isinstance(value, str) and (not value or _INSTANCE.fullmatch(value)):
        return value
    raise InvalidValue(f"the instance {values.shown(value)} is no mark of a machine", "send 8 hex digits")


def _natural(value: object, what: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53:
        return value
    raise InvalidValue(f"the {what} {values.shown(value)} is no natural number below 2^53", "send an integer")


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**53
