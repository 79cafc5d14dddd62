# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator's request does to the leases of a zone, as pure functions without a policy.

The supervisor decides with them, and the module ``jaywalk_lease`` predicts with them in check mode, so the
prediction changes with the decision.  The addresses of a lease are the supervisor's decision alone.

A request names its lease by the public key, or by the name of a host.  A reservation by name has a key that
no node has, until the first node with that name joins or a request assigns the host's key.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Callable, Protocol

from ..core import ip
from ..core.errors import RequestRefused
from ..core.key_format import default_name
from .models import Lease, reservation_key
from .names import unique_name
from .record_fields import GRANTS, LEASE
from .requests import Request


class Leases(Protocol):
    """The leases of a zone by key."""

    def get(self, key: str, /) -> Lease | None:
        """Returns the lease of ``key``, or None."""

    def values(self) -> Iterable[Lease]:
        """Returns all leases."""


def unclaimed(leases: Leases, name: str) -> Lease | None:
    """Returns the reservation for the first node with ``name``, or None."""
    return leases.get(reservation_key(name)) if name else None


def host_lease(leases: Leases, name: str) -> Lease | None:
    """Returns the lease that is reserved for the host ``name``, claimed or not, or None."""
    waiting = unclaimed(leases, name)
    return waiting or next((lease for lease in leases.values() if lease.host == name), None)


def requested_key(leases: Leases, request: Request) -> str:
    """Returns the key whose lease ``request`` is about."""
    if request.key:
        return request.key
    lease = host_lease(leases, request.name)
    return reservation_key(request.name) if lease is None else lease.key


def source_lease(leases: Leases, request: Request) -> Lease | None:
    """Returns the lease that ends because its addresses move to the key of ``request``, or None.

    Raises ``RequestRefused`` if several leases have the name of a rekey.
    """
    if not request.key or not request.name:
        return None
    if request.op == "reserve":
        return unclaimed(leases, request.name)
    if request.op == "rekey":
        old = host_lease(leases, request.name) or _only_lease_named(leases, request)
        return None if old is None or old.key == request.key else old
    return None


def _only_lease_named(leases: Leases, request: Request) -> Lease | None:
    """Returns the only lease with the name of ``request``, which no operator reserved, or None.

    Nodes choose their names, so several leases can have it.
    """
    named = [lease for lease in leases.values() if request.name in (lease.name, lease.requested_name)]
    others = [lease for lease in named if lease.key != request.key]
    if len(others) > 1:
        raise RequestRefused(
            "name-ambiguous",
            f"{len(others)} other keys of zone {request.zone} are called {request.name} "
            f"({', '.join(lease.key for lease in others[:3])}): release those that are gone first",
        )
    return others[0] if others else None


def check_host_is_free(leases: Leases, request: Request) -> None:
    """Raises ``RequestRefused`` if a reservation names a host that has another key."""
    if request.op != "reserve" or not request.key or not request.name:
        return
    bound = host_lease(leases, request.name)
    if bound is not None and bound.key not in (request.key, reservation_key(request.name)):
        raise RequestRefused(
            "name-reserved",
            f"the host {request.name} of zone {request.zone} has the key {bound.key}: "
            "request a rekey if the host was reinstalled, or give this one another name",
        )


def reserved_lease(
    request: Request,
    key: str,
    lease: Lease | None,
    source: Lease | None,
    addresses: tuple[str, ...],
    is_taken: Callable[[str], bool],
) -> Lease:
    """Returns the lease that ``request`` reserves for ``key``, with ``addresses``.

    The values of the request take precedence over those of ``source`` and of ``lease``, the key's lease so
    far.  ``is_taken`` says whether a key other than that of lease and source has a name.
    """
    kept = request.child_prefixes
    if not kept and not request.complete:
        kept = (source.reserved_prefixes if source else ()) or (lease.reserved_prefixes if lease else ())
    announced = () if request.child_prefixes or lease is None else _announced(lease, request.complete)
    host = (source.host if source else "") or (lease.host if lease else "")
    if request.name and (host or not request.key or request.op == "rekey"):
        host = request.name
    name, asked = host, ""
    if not host:
        requested = request.name or (lease.requested_name or lease.name if lease else default_name(key))
        name, asked = unique_name(requested, lease, is_taken)
    return Lease(
        key,
        name,
        addresses,
        merge_prefixes(kept, announced),
        released=0,
        seq=lease.seq if lease else 0,
        host=host,
        reserved_prefixes=kept,
        requested_name=asked,
        signed=lease.signed if lease else None,
        grants=(LEASE, *_granted_words(request, lease, source)),
        proven=lease is not None and lease.proven,
    )


def _announced(lease: Lease, complete: bool) -> tuple[str, ...]:
    """The prefixes of ``lease`` beside the request's; not those of before if its list is complete."""
    if not complete:
        return lease.prefixes
    return tuple(prefix for prefix in lease.prefixes if prefix not in lease.reserved_prefixes)


def _granted_words(request: Request, lease: Lease | None, source: Lease | None) -> tuple[str, ...]:
    if request.grants is not None:
        return request.grants
    known = {*(lease.grants if lease else ()), *(source.grants if source else ())}
    return tuple(word for word in GRANTS if word in known)


def merge_prefixes(kept: Iterable[str], announced: Iterable[str]) -> tuple[str, ...]:
    """Returns the prefixes that an operator reserved, and the announced ones that these do not cover."""
    kept = tuple(kept)
    networks = ip.networks(kept)
    return (*kept, *(prefix for prefix in announced if not _is_covered(prefix, networks)))


def _is_covered(prefix: str, networks: Iterable[ip.Network]) -> bool:
    wider = ip.overlapping(networks, prefix)
    return wider is not None and wider.prefixlen <= ipaddress.ip_network(prefix).prefixlen


def without_prefixes(lease: Lease, released: Collection[str]) -> Lease:
    """Returns ``lease`` without the child prefixes ``released``."""
    return replace(
        lease,
        prefixes=tuple(prefix for prefix in lease.prefixes if prefix not in released),
        reserved_prefixes=tuple(prefix for prefix in lease.reserved_prefixes if prefix not in released),
    )
