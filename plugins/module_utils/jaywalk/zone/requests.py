# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests of nodes and operators to the supervisors, and the replies; checked at both ends.

``to_wire`` returns JSON text; ``from_wire`` checks and parses it, and raises ``InvalidValue``.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from ..core import key_format, validation
from ..core.errors import BadRequest, InvalidValue, RequestRefused
from ..trust.statements import Signed
from ..trust.supervisor_keys import MAX_KEYS
from . import blocks, codec
from .join_tokens import JoinToken, checked_id
from .models import SCHEMA, Lease, Peer
from .record_fields import GRANTS, MAX_LOCAL, MAX_PREFIXES, MAX_REQUESTED
from .reply_streams import ReplyTo

MAX_REQUEST_BYTES = 16384

# Endpoints in one report, which then has less than MAX_REQUEST_BYTES, even with IPv6 endpoints.
MAX_OBSERVED = 128

# Says that a node is alive. It gets no reply, so it has no nonce.
REPORT = "report"
# The mean interval of an agent's reports. 10,000 agents send 170 requests a second, a fiftieth of what a
# supervisor can commit, and a shown last-seen time is never older than the agent's interval between two full
# checks of its interface.
REPORT_SECONDS = 60.0
# Tests whether a supervisor replies. It changes nothing, not even the node's last-seen time.
CHECK = "check"
# The state in the reply to a check of a key whose lease ended, which an operator's removal does.
REMOVED = "removed"
AGENT_OPS = ("join", "leave", "endpoint", REPORT, CHECK)
# An operator's request that stores a signed statement of the mesh lock.
SIGN = "sign"
# Operators' requests that add a join token, and remove one.
ADD_TOKEN, REMOVE_TOKEN = TOKEN_OPS = ("token-add", "token-remove")
OPERATOR_OPS = ("reserve", "release", "rekey", "show", SIGN, "block", "allow", *TOKEN_OPS)
# Requests that expire when their sender stops waiting, since they may take an address that another node has
# by then. A leave does not expire: it should happen in any case.
EXPIRING_OPS = ("join", *OPERATOR_OPS)

_NONCE = re.compile(r"[0-9a-f]{32}")
_SHARED = "shared"


def new_nonce() -> str:
    """128 random bits in hex; its holder can find the reply."""
    return secrets.token_hex(16)


def new_seq() -> int:
    """A number that grows with each request of a node: microseconds since 1970."""
    return time.time_ns() // 1000


@dataclass(frozen=True)
class Request:
    """A request of a node (``{zone}:inbox``) or an operator (``{zone}:orders``) to the supervisors.

    ``request_ip`` holds at most one address a pool, ``child_prefixes`` is the whole list that the peer
    announces; in a ``release`` those to give back, the lease itself staying.  An operator's request may have
    an empty ``key`` and mean the host called ``name``.  ``nonce`` names the answer, ``seq`` orders the
    requests of one key; a report has the nonce "".  ``shared`` says that its sender looks for the answer in
    the streams that all share, which an older version does not.  ``former_ip`` are the addresses that a node
    had as far as it remembers, and ``former_name`` its numbered name, if it had one: where Redis lost its
    lease it gets them again if they are free.  ``fixed``, ``local`` and ``relay`` go into the record of the
    peer, ``observed`` are the endpoints at which a node sees its peers, by public key.  ``notes`` say what
    became of values that were not in their canonical spelling.  ``expires``, in milliseconds since 1970 by
    the controller's clock, is when nobody waits any more, or 0: after that it is not carried out.  ``signed``
    is the statement that an operator signed about the key: a node brings its own, should Redis have lost it.
    ``by`` and ``reason`` are an operator's: who changes something, for the audit, and why a key is blocked.
    ``grants`` of an operator's request are all that the key gets (:data:`.record_fields.GRANTS`), None to
    leave them as they are; with ``complete`` its ``child_prefixes`` are all that the operator reserves, even
    if they are none.
    ``proven`` says that a supervisor has checked that the sender holds the private key of ``key``.
    ``last_seq`` of a check is the ``seq`` in the sender's record as the sender last knew it, or 0: the
    record was removed only if the zone remembers as much of the key.
    ``join_token`` is the text of the join token with which a node joins: it is never a part of the request's
    JSON, where ``sealed`` stands for it.  ``token`` is the record of the token that an operator adds or
    removes, by ``token_id``, and that of the one by which a supervisor admits a join.
    """

    op: str
    zone: str
    key: str
    name: str = ""
    request_ip: tuple[str, ...] = ()
    former_ip: tuple[str, ...] = ()
    former_name: str = ""
    child_prefixes: tuple[str, ...] = ()
    endpoint: str = ""
    fixed: bool = False
    local: tuple[str, ...] = ()
    relay: int = 0
    nonce: str = field(default_factory=new_nonce)
    shared: bool = True
    seq: int = field(default_factory=new_seq)
    machine_id: str = ""
    observed: Mapping[str, str] = field(default_factory=dict)
    expires: int = 0
    signed: Signed | None = None
    by: str = ""
    reason: str = ""
    grants: tuple[str, ...] | None = None
    complete: bool = False
    proven: bool = False
    join_token: str = field(default="", compare=False, repr=False)
    sealed: str = field(default="", compare=False, repr=False)
    token: JoinToken | None = field(default=None, repr=False)
    token_id: str = ""
    last_seq: int = 0
    notes: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def validated(
        cls,
        op: str,
        zone: object,
        key: object,
        name: str = "",
        request_ip: Sequence[object] = (),
        child_prefixes: Sequence[object] = (),
        endpoint: str = "",
        fixed: bool = False,
        local: Sequence[object] = (),
        relay: int = 0,
        machine_id: object = "",
        observed: object = MappingProxyType({}),
        former_ip: Sequence[object] = (),
        former_name: str = "",
        nonce: str | None = None,
        seq: int | None = None,
        shared: bool = True,
        expires: int = 0,
        signed: Signed | None = None,
        by: str = "",
        reason: str = "",
        grants: Sequence[object] | None = None,
        complete: bool = False,
        join_token: str = "",
        sealed: str = "",
        token: JoinToken | None = None,
        token_id: str = "",
        last_seq: int = 0,
        proven: bool = False,
    ) -> Request:
        """A request of unchecked values; new unless checked ``nonce`` and ``seq`` are given."""
        return cls(
            op=op,
            zone=validation.zone_name(zone),
            key="" if _names_no_key(op, name, key) else key_format.public_key(key),
            name=validation.node_name(name) if name else "",
            request_ip=codec.checked_list(_requested, list(request_ip), "requested addresses", MAX_REQUESTED),
            former_ip=codec.checked_list(_requested, list(former_ip), "former addresses", MAX_REQUESTED),
            former_name=validation.dns_label(former_name, "former name") if former_name else "",
            child_prefixes=codec.checked_list(
                validation.child_prefix, list(child_prefixes), "child prefixes", MAX_PREFIXES
            ),
            endpoint=validation.machine_endpoint(endpoint) if endpoint else "",
            fixed=fixed,
            local=codec.checked_list(validation.machine_address, list(local), "local addresses", MAX_LOCAL),
            relay=validation.port(relay, "relay's port") if relay else 0,
            nonce=("" if op == REPORT else new_nonce()) if nonce is None else nonce,
            seq=new_seq() if seq is None else seq,
            shared=shared,
            machine_id=validation.machine_id(machine_id),
            observed=_observed(observed),
            expires=expires,
            signed=signed,
            by=blocks.shortened(by),
            reason=blocks.shortened(reason),
            grants=None if grants is None else _granted(grants),
            complete=complete,
            join_token=join_token,
            sealed=sealed,
            token=token,
            token_id=checked_id(token_id) if op in TOKEN_OPS else "",
            last_seq=last_seq,
            proven=proven,
            notes=_normalised(child_prefixes),
        )

    @property
    def reply_to(self) -> ReplyTo | None:
        """Where the reply goes; None for a report, which gets none."""
        return ReplyTo(self.nonce, self.shared) if self.nonce else None

    def to_wire(self) -> str:
        fields: dict[str, Any] = {
            "v": SCHEMA,
            "op": self.op,
            "zone": self.zone,
            "key": self.key,
            "seq": self.seq,
        }
        optional: dict[str, Any] = {
            "nonce": self.nonce,
            "answer": _SHARED if self.nonce and self.shared else "",
            "name": self.name,
            "request_ip": list(self.request_ip),
            "former_ip": list(self.former_ip),
            "former_name": self.former_name,
            "child_prefixes": list(self.child_prefixes),
            "endpoint": self.endpoint,
            "fixed": self.fixed,
            "local": list(self.local),
            "relay": self.relay,
            "instance": self.machine_id,
            "observed": self.observed,
            "expires": self.expires,
            "lock": self.signed.to_wire() if self.signed else None,
            "by": self.by,
            "reason": self.reason,
            "complete": self.complete,
            "sealed": self.sealed,
            "token": self.token.to_wire() if self.token else None,
            "token_id": self.token_id,
            "last_seq": self.last_seq,
        }
        fields.update({name: value for name, value in optional.items() if value})
        if self.grants is not None:
            fields["grants"] = list(self.grants)
        return codec.compact(fields)

    @classmethod
    def from_wire(cls, text: str, zone: str, ops: Sequence[str], proven: bool = False) -> Request:
        """Parses a request from a list of ``zone`` that accepts the operations ``ops``."""
        data = _envelope(text, zone, ops)
        return cls.validated(
            op=data["op"],
            zone=zone,
            key=data.get("key"),
            name=_own_name(codec.text(data.get("name", ""), "name")),
            request_ip=codec.a_list(data.get("request_ip", []), "requested addresses"),
            former_ip=codec.a_list(data.get("former_ip", []), "former addresses"),
            former_name=codec.text(data.get("former_name", ""), "former name"),
            child_prefixes=codec.a_list(data.get("child_prefixes", []), "child prefixes"),
            endpoint=codec.text(data.get("endpoint", ""), "endpoint"),
            fixed=data.get("fixed") is True,
            local=codec.a_list(data.get("local", []), "local addresses"),
            relay=codec.natural(data.get("relay", 0), "relay's port"),
            machine_id=data.get("instance", ""),
            observed=data.get("observed", {}),
            nonce=_awaited(data),
            seq=codec.natural(data.get("seq"), "seq"),
            shared=data["op"] == REPORT or data.get("answer") == _SHARED,
            expires=codec.natural(data.get("expires", 0), "expiry"),
            signed=Signed.from_wire(data["lock"]) if data.get("lock") else None,
            by=codec.text(data.get("by", ""), "operator"),
            reason=codec.text(data.get("reason", ""), "reason"),
            grants=codec.a_list(data["grants"], "grants") if "grants" in data else None,
            complete=data.get("complete") is True,
            sealed=codec.text(data.get("sealed", ""), "sealed join token"),
            token=JoinToken.from_wire(data.get("token_id"), data.get("token")) if _adds_token(data) else None,
            token_id=data.get("token_id", ""),
            last_seq=codec.natural(data.get("last_seq", 0), "last seq"),
            proven=proven,
        )


def _names_no_key(op: str, name: str, key: object) -> bool:
    return op in TOKEN_OPS or (op in OPERATOR_OPS and bool(name) and not key)


def _adds_token(data: Mapping[str, Any]) -> bool:
    return bool(data["op"] == ADD_TOKEN)


def _envelope(text: str, zone: str, ops: Sequence[str]) -> dict[str, Any]:
    """The fields of a request for ``zone``; raises ``BadRequest`` with the reason."""
    if len(text) > MAX_REQUEST_BYTES:
        raise BadRequest(
            "too-large", f"the request has {len(text)} bytes", f"send at most {MAX_REQUEST_BYTES}"
        )
    try:
        data: dict[str, Any] = codec.parsed(text, dict, "the request")
    except InvalidValue as error:
        raise BadRequest("not-json", error.problem, error.remedy) from None
    if data.get("v") != SCHEMA or data["v"] is True:
        raise BadRequest(
            "version", f"the request has version {validation.shown(data.get('v'))}", f"send version {SCHEMA}"
        )
    if data.get("zone") != zone:
        raise BadRequest(
            "zone", f"the request is for zone {validation.shown(data.get('zone'))}", f"this is zone {zone}"
        )
    if data.get("op") not in ops:
        raise BadRequest(
            "operation",
            f"the operation {validation.shown(data.get('op'))} is unknown here",
            f"use one of {', '.join(ops)}",
        )
    return data


def nonce_of(data: Mapping[str, Any]) -> str:
    """The nonce of a request that may be invalid otherwise; raises ``InvalidValue``."""
    nonce = data.get("nonce")
    if isinstance(nonce, str) and _NONCE.fullmatch(nonce):
        return nonce
    raise InvalidValue("the request has no nonce", "send 32 hexadecimal digits")


def _own_name(name: str) -> str:
    """The name that a node requests; empty for a placeholder, which an older agent may send."""
    return "" if name in validation.PLACEHOLDER_NAMES else name


def _awaited(data: Mapping[str, Any]) -> str:
    """The nonce of a request; empty for a report, which must not have one."""
    if data["op"] != REPORT:
        return nonce_of(data)
    if "nonce" in data:
        raise InvalidValue("a report has a nonce", "leave it out: nobody answers a report")
    return ""


def readable_reply_to(text: str) -> ReplyTo | None:
    """Where to reply to a request that does not parse, or None."""
    try:
        data = codec.parsed(text[: MAX_REQUEST_BYTES + 1], dict, "the request")
        return ReplyTo(nonce_of(data), data.get("answer") == _SHARED)
    except InvalidValue:
        return None


def readable_question(text: str) -> tuple[str, int]:
    """The operation and the seq of a request that does not parse, as far as they can be read."""
    try:
        data = codec.parsed(text, dict, "the request")
        return codec.text(data.get("op"), "operation"), codec.natural(data.get("seq"), "seq")
    except InvalidValue:
        return "", 0


@dataclass(frozen=True)
class Reply:
    """The reply to one request: a lease, or an error.

    ``keys`` are the public keys of the supervisors, newest first, while they change their key; only a proven
    answer has them.
    """

    ok: bool
    code: str = ""
    error: str = ""
    state: str = ""
    name: str = ""
    addresses: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    changed: bool = False
    notes: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    @classmethod
    def granted(cls, held: Peer | Lease, changed: bool) -> Reply:
        return cls(
            ok=True,
            state=held.state,
            name=held.name,
            addresses=held.addresses,
            prefixes=held.prefixes,
            changed=changed,
        )

    @classmethod
    def refused(cls, code: str, error: str) -> Reply:
        return cls(ok=False, code=code, error=error)

    def to_wire(self) -> str:
        fields: dict[str, Any] = {"ok": False, "code": self.code, "error": self.error}
        if self.ok:
            fields = {
                "ok": True,
                "state": self.state,
                "name": self.name,
                "addresses": list(self.addresses),
                "prefixes": list(self.prefixes),
                "changed": self.changed,
            }
        if self.notes:
            fields["notes"] = list(self.notes)
        if self.keys:
            fields["keys"] = list(self.keys)
        return codec.compact(fields)

    @classmethod
    def from_wire(cls, text: str) -> Reply:
        data = codec.parsed(text, dict, "the supervisor's answer")
        keys = codec.checked_list(key_format.public_key, data.get("keys", []), "supervisors' keys", MAX_KEYS)
        if data.get("ok") is not True:
            code, error = (codec.text(data.get(name, ""), name) for name in ("code", "error"))
            return replace(cls.refused(code, error), keys=keys)
        return cls(
            ok=True,
            state=codec.text(data.get("state", ""), "state"),
            name=validation.dns_label(data["name"]) if data.get("name") else "",
            addresses=codec.checked_list(
                validation.address, data.get("addresses", []), "addresses", MAX_REQUESTED
            ),
            prefixes=codec.checked_list(
                validation.child_prefix, data.get("prefixes", []), "child prefixes", MAX_PREFIXES
            ),
            changed=data.get("changed") is True,
            notes=codec.checked_list(
                lambda note: codec.text(note, "note"), data.get("notes", []), "notes", MAX_PREFIXES
            ),
            keys=keys,
        )

    def lease_or_raise(self) -> Reply:
        """The reply itself if it grants a lease; raises ``RequestRefused`` otherwise."""
        if not self.ok:
            raise RequestRefused(self.code, self.error)
        return self


def _normalised(prefixes: Sequence[object]) -> tuple[str, ...]:
    """A sentence for each prefix whose address bits go beyond its length."""
    return tuple(
        f"the child prefix {text} is taken as its network {network}"
        for text in prefixes
        if isinstance(text, str)
        and (network := validation.network(text)).partition("/")[0] != text.partition("/")[0]
    )


def _granted(words: Sequence[object]) -> tuple[str, ...]:
    unknown = [word for word in words if word not in GRANTS]
    if unknown:
        raise InvalidValue(
            f"the grant {validation.shown(unknown[0])} is unknown", f"give {' or '.join(GRANTS)}, or both"
        )
    return tuple(word for word in GRANTS if word in words)


def _observed(endpoints: object) -> dict[str, str]:
    if not isinstance(endpoints, Mapping):
        raise InvalidValue("what was observed is no JSON object", "send public keys and endpoints")
    if len(endpoints) > MAX_OBSERVED:
        raise InvalidValue(f"there are {len(endpoints)} observed endpoints", f"send at most {MAX_OBSERVED}")
    return {key_format.public_key(key): validation.endpoint(endpoint) for key, endpoint in endpoints.items()}


def _requested(text: object) -> str:
    return validation.address(text, "requested address")
