# Copyright: (c) 2026, Jaywalking maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules know of leases: they read them, predict what a request makes of them, and show the changes.

Internal to this collection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from ._module import changed_lines
from .jaywalk.controller.client import ZoneClient
from .jaywalk.mesh import preview
from .jaywalk.wireguard.steps import Step
from .jaywalk.zone.models import Lease, Zone
from .jaywalk.zone.record_fields import GRANTS, LEASE
from .jaywalk.zone.requests import Request
from .jaywalk.zone.reservations import (
    Leases,
    check_host_is_free,
    requested_key,
    reserved_lease,
    source_lease,
    without_prefixes,
)

# The requests that end a lease, or a part of it.
ENDS_LEASE = ("release", "block")


class LeaseReader:
    """The leases of a zone; reads each one, or all of them, at most once, and only if they are needed."""

    def __init__(self, client: ZoneClient) -> None:
        self._lease = lru_cache(maxsize=None)(client.lease)
        self._leases = lru_cache(maxsize=None)(client.leases)

    def get(self, key: str, /) -> Lease | None:
        """Returns the lease of ``key``, or None."""
        return self._lease(key)

    def values(self) -> list[Lease]:
        """Returns all leases that can be read."""
        return self._leases()


def predict(leases: Leases, request: Request, lease: Lease | None, source: Lease | None) -> Lease | None:
    """Returns the lease after ``request`` is granted, or None if it ends.

    ``lease`` is the key's lease so far, ``source`` the one whose addresses move to it.  The result lacks the
    addresses that only the supervisor can choose.
    """
    if request.op == "block":
        return None
    if request.op == "release":
        return without_prefixes(lease, request.child_prefixes) if lease and request.child_prefixes else None
    key = lease.key if lease else requested_key(leases, request)
    own = {key, source.key} if source else {key}

    def is_taken(name: str) -> bool:
        others = (other for other in leases.values() if other.key not in own)
        return any(name in (other.host, other.name if other.state == "active" else "") for other in others)

    known = preview.expected_addresses(source or lease, request)
    after = reserved_lease(request, key, lease, source, known, is_taken)
    return replace(after, released=None) if lease is not None and lease.released is None else after


def planned_changes(
    zone: Zone, leases: Leases, request: Request, lease: Lease | None, check_mode: bool
) -> list[Step]:
    """Returns the changes of a granted request; raises the refusals that can be known before it is sent."""
    check_host_is_free(leases, request)
    source = source_lease(leases, request)
    after = predict(leases, request, lease, source)
    before = (*lease_lines(source), *lease_lines(lease))
    hosts = preview.preview_addresses(zone, after.addresses, after.addresses) if after else ()
    steps = changed_lines(before, lease_lines(after, hosts))
    if steps and after is not None and request.op not in ENDS_LEASE:
        preview.check_addresses(zone, request.request_ip)
        preview.check_prefixes(zone, after.prefixes)
        if check_mode:
            own = {held.key for held in (lease, source) if held is not None}
            check_predictable(leases, replace(request, child_prefixes=after.prefixes), own)
    return steps


def check_predictable(leases: Leases, request: Request, own: set[str]) -> None:
    """Raises the refusals that the supervisor would send for what another lease has.

    ``own`` are the keys whose leases belong to the requested one.  The supervisor knows more: which
    addresses are in quarantine, which records it cannot read, and whether a pool is full.
    """
    preview.check_not_taken([lease for lease in leases.values() if lease.key not in own], request)


def lease_lines(lease: Lease | None, hosts: Sequence[str] | None = None) -> tuple[str, ...]:
    """Returns the lines of a diff for ``lease``, with ``hosts`` as its addresses if they are given."""
    if lease is None:
        return ()
    about = f"lease {lease.host if lease.is_unclaimed else lease.key}"
    addresses = lease.addresses if hosts is None else hosts
    announced = (
        f"{prefix} announced by the node"
        for prefix in lease.prefixes
        if prefix not in lease.reserved_prefixes
    )
    lines = preview.lines(
        about, lease.name, addresses, (*lease.reserved_prefixes, *announced), state=lease.state
    )
    facts = [f"host {lease.host}"] * bool(lease.host and not lease.is_unclaimed)
    facts += [f"requested-name {lease.requested_name}"] * bool(lease.requested_name)
    facts += ["reserved by an operator"] * (lease.state == "active" and LEASE in lease.grants)
    facts += [f"granted {word}" for word in GRANTS if word in lease.grants]
    return (*lines, *(f"{about} {fact}" for fact in facts))
