# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes may join for the first time: by the zone's password, a join token, or an operator's approval.

A key that has a lease is never asked again, whether its node joined before or an operator reserved the lease.
A join token counts in each zone, also where the password alone would do.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from jaywalk.core import ip
from jaywalk.core.errors import RequestRefused
from jaywalk.zone import join_tokens
from jaywalk.zone.events import ADMISSION, Change
from jaywalk.zone.join_tokens import APPROVAL_NEEDED, TOKEN_NEEDED, TOKEN_REFUSED, JoinToken
from jaywalk.zone.member_authority import is_within
from jaywalk.zone.models import Lease
from jaywalk.zone.options import BY_APPROVAL, BY_PASSWORD
from jaywalk.zone.requests import ADD_TOKEN, REMOVE_TOKEN, Reply, Request
from jaywalk.zone.reservations import unclaimed

from ..state.zone_state import ZoneState
from .decision import Decision

# Of a zone.
MAX_TOKENS = 1000


def needed_tokens(requests: Iterable[Request]) -> tuple[set[str], bool]:
    """Returns the ids of the join tokens on which the decisions depend, and whether they depend on all."""
    requests = list(requests)
    named = (join_tokens.split(request.join_token) for request in requests if request.join_token)
    return {parts[0] for parts in named if parts}, any(request.token_id for request in requests)


def admitted(state: ZoneState, request: Request, now: float) -> Request:
    """Returns ``request`` with the join token that admits it, if it is a first join and has one.

    A node that requests no address gets one of the token's.  Raises ``RequestRefused``.
    """
    if request.op != "join" or request.key in state.leases:
        return request
    policy, zone = state.zone.policy, state.zone.name
    if not request.sealed:
        if policy.admission == BY_PASSWORD:
            return request
        raise _approval_needed(state, request) if policy.admission == BY_APPROVAL else _token_needed(zone)
    if not request.proven:
        raise RequestRefused(
            TOKEN_REFUSED,
            f"a join token counts only with a proof of the key {request.key}, which this join lacks: "
            "install the Python library cryptography on that node (Debian: python3-cryptography)",
        )
    token = _holders_token(state, request, now)
    _check_name(token, zone, request.name)
    request = replace(request, token=token)
    return replace(request, request_ip=_requested(state, token, request))


def spent(request: Request) -> tuple[Change, ...]:
    """Returns the change by which the token of an admitted join counts its key."""
    if request.token is None:
        return ()
    token = request.token.spent(request.key)
    return (Change(ADMISSION, token.id, token.to_wire()),)


def granted_prefixes(token: JoinToken | None, request: Request) -> tuple[str, ...]:
    """Returns those child prefixes of ``request`` that ``token`` grants."""
    networks = ip.networks(token.prefixes) if token else ()
    return tuple(prefix for prefix in request.child_prefixes if is_within(prefix, networks))


def granted_name(state: ZoneState, request: Request, held: Lease | None) -> str:
    """Returns the name that a join token gives the node of ``request`` for good; empty for none.

    It is nobody else's: the word of a token is no reason to rename a member.
    """
    token = request.token
    if token is None or not token.names or (held is not None and held.host):
        return ""
    keys = {request.key, held.key} if held is not None else {request.key}
    if state.is_taken(keys, request.name):
        raise RequestRefused(
            "name-taken",
            f"another node of zone {state.zone.name} is called {request.name}: give this one another name "
            f"that its join token permits ({', '.join(token.names)})",
        )
    return request.name


def add(state: ZoneState, request: Request, now: float) -> Decision:
    """Adds the join token of an operator's request."""
    assert request.token is not None
    if request.token_id in state.join_tokens:
        raise RequestRefused("token-exists", f"there is a join token {request.token_id}: make another")
    if len(state.join_tokens) >= MAX_TOKENS:
        raise RequestRefused(
            "too-many-tokens",
            f"zone {state.zone.name} has {MAX_TOKENS} join tokens: remove those that are no longer valid",
        )
    for network in request.token.addresses:
        if not any(is_within(network, [pool]) for pool in state.zone.networks):
            raise RequestRefused(
                "address", f"the addresses {network} of the join token lie in no pool of {state.zone.name}"
            )
    token = replace(request.token, used=(), by=request.by, since=int(now))
    return Decision(Reply(ok=True, changed=True), (Change(ADMISSION, token.id, token.to_wire()),))


def remove(state: ZoneState, request: Request, now: float) -> Decision:
    """Removes a join token; the nodes that joined with it stay."""
    known = request.token_id in state.join_tokens
    return Decision(Reply(ok=True, changed=known), (Change(ADMISSION, request.token_id),) if known else ())


TOKEN_HANDLERS = {ADD_TOKEN: add, REMOVE_TOKEN: remove}


def _holders_token(state: ZoneState, request: Request, now: float) -> JoinToken:
    """Returns the token of a join; one sentence for all refusals, which so tell nothing about a guess."""
    parts = join_tokens.split(request.join_token)
    token = state.join_tokens.get(parts[0]) if parts else None
    if parts is None or token is None or not token.admits(parts[1], request.key, now):
        raise RequestRefused(
            TOKEN_REFUSED,
            f"the join token of this node is not valid in zone {state.zone.name}: unknown, expired, used up "
            "or removed. Have an operator make another (jaywalk-supervisor join-token add --zone "
            f"{state.zone.name})",
        )
    return token


def _check_name(token: JoinToken, zone: str, name: str) -> None:
    if not token.permits_name(name):
        called = f"is called {name}" if name else "requests no name"
        raise RequestRefused(
            TOKEN_REFUSED,
            f"the join token of this node is for nodes called {', '.join(token.names)} in zone {zone}, and "
            f"this node {called}",
        )


def _requested(state: ZoneState, token: JoinToken, request: Request) -> tuple[str, ...]:
    """Returns the addresses that a node requests, and of each further version of the token one of its own.

    One whose name has a reservation gets that.
    """
    requested = request.request_ip
    networks = ip.networks(token.addresses)
    versions = {network.version for network in networks}
    asked = {ip.version_of(address) for address in requested}
    for address in requested:
        if ip.version_of(address) in versions and ip.holding(networks, address) is None:
            raise RequestRefused(
                TOKEN_REFUSED,
                f"the join token of this node is for addresses in {', '.join(token.addresses)}, and it "
                f"requests {address}",
            )
    if token.names and unclaimed(state.leases, request.name) is not None:
        return requested
    return (*requested, *(_free(state, networks, version) for version in sorted(versions - asked)))


def _free(state: ZoneState, networks: Sequence[ip.Network], version: int) -> str:
    found = (
        pool.lowest_free_in(network)
        for network in networks
        for pool in state.pools
        if network.version == pool.version == version
    )
    address = next(filter(None, found), None)
    if address is None:
        raise RequestRefused(
            TOKEN_REFUSED,
            f"all addresses of zone {state.zone.name} that the join token of this node permits are taken: "
            "have an operator make another",
        )
    return address


def _token_needed(zone: str) -> RequestRefused:
    return RequestRefused(
        TOKEN_NEEDED,
        f"zone {zone} admits a new node with a join token only: have an operator make one "
        f"(jaywalk-supervisor join-token add --zone {zone}) and give this node its file (--join-token-file)",
    )


def _approval_needed(state: ZoneState, request: Request) -> RequestRefused:
    zone = state.zone.name
    return RequestRefused(
        APPROVAL_NEEDED,
        f"zone {zone} admits a new node once an operator approves it ('jaywalk-supervisor peer approve "
        f"--zone {zone} {request.key}')",
    )
