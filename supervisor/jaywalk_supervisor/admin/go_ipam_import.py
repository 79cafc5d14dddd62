# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports the addresses that the original's supervisor saved.

Its ``ipam-<zone>.json`` is a dump of the Go library go-ipam: a JSON list of prefixes, each with ``Cidr`` and
``IPs``, a map from each address in use to true.  It names the owner of no address and of no child prefix.  So
each address becomes the lease of a node that left: no node gets it by chance, and the node that requests it
(``--request-ip``) has it again.
"""

from __future__ import annotations

import ipaddress
import json
from typing import Any

from jaywalk.core import ip, validation
from jaywalk.core.errors import InvalidValue
from jaywalk.zone.events import Change
from jaywalk.zone.models import Lease, reservation_key

from ..decisions.allocation import check_growth
from ..state.zone_state import ZoneState
from ..store.store import Store
from .zones import check_known


def parse(text: str) -> list[tuple[str, list[str]]]:
    """Returns the prefixes of a saved state, normalised, with the addresses in use in each."""
    try:
        saved = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidValue(
            "the file is no JSON", "name the original's ipam-red.json or ipam-blue.json"
        ) from None
    if not isinstance(saved, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("IPs") or {}, dict) for entry in saved
    ):
        raise InvalidValue(
            "the file holds no list of prefixes with Cidr and IPs", "name the original's ipam-red.json"
        )
    return [
        (
            validation.network(entry.get("Cidr"), "saved prefix"),
            [host for host, used in (entry.get("IPs") or {}).items() if used],
        )
        for entry in saved
    ]


def import_addresses(store: Store, name: str, text: str) -> dict[str, Any]:
    """Imports the saved addresses into the zone ``name``; returns them, and what was left out.

    A second import changes nothing.  Raises ``InvalidValue`` if nothing in the file fits the zone.
    """
    saved = parse(text)
    check_known(store.zones(), name)
    now = store.time(name)

    def importable(state: ZoneState) -> list[Change]:
        changes, _ = plan(state, saved, now)
        for change in changes:
            state.apply(change)
        return changes

    done = store.commit_all(name, importable, "import")
    _, report = plan(store.load(name), saved, now)
    taken = [host for change in done for host in Lease.from_wire(change.key, change.text).addresses]
    return {**report, "taken": taken}


def plan(
    state: ZoneState, saved: list[tuple[str, list[str]]], now: float
) -> tuple[list[Change], dict[str, list[str]]]:
    """Returns the leases to add, and what of the saved state makes none."""
    changes: list[Change] = []
    held: list[str] = []
    outside: list[str] = []
    children: list[str] = []
    for cidr, hosts in saved:
        if ip.overlapping(state.zone.networks, cidr) is None:
            children.append(cidr)
            continue
        for host in sorted(hosts, key=lambda text: int(ipaddress.ip_address(validation.address(text)))):
            address = validation.address(host)
            pool = state.pool_of(address)
            if pool is None:
                outside.append(address)
            elif pool.owner_of(address) is not None:
                held.append(address)
            elif not pool.is_reserved(address) and address not in _edges(cidr):
                check_growth(state, (), address)
                changes.append(_lease(address, now))
    if children and len(children) == len(saved):
        raise InvalidValue(
            f"the file's {', '.join(children[:3])} lie outside the pools of zone {state.zone.name} "
            f"({', '.join(state.zone.pools)})",
            "name the zone that the file is of, or give it such a pool with 'zone set'",
        )
    return changes, {"held": held, "outside": outside, "child_prefixes": children}


def report_lines(zone: str, report: dict[str, list[str]]) -> list[str]:
    """Returns the result of an import, as sentences for people."""
    lines = [f"zone {zone} got {len(report['taken'])} addresses; a node gets its own by requesting it"]
    held = [address for address in report["held"] if address not in report["taken"]]
    if held:
        lines.append(f"held in the zone already: {', '.join(held)}")
    if report["outside"]:
        lines.append(f"left out, since no pool holds them: {', '.join(report['outside'])}")
    if report["child_prefixes"]:
        prefixes = ", ".join(report["child_prefixes"])
        lines.append(
            f"the file names no owner of these; they belong to the node that announces them: {prefixes}"
        )
    return lines


def _edges(cidr: str) -> set[str]:
    """Returns the addresses that go-ipam marks as used in each prefix: network and broadcast address."""
    network = ipaddress.ip_network(cidr)
    return {str(network[0]), str(network[-1])} if network.num_addresses > 2 else set()


def _lease(address: str, now: float) -> Change:
    label = ipaddress.ip_address(address).exploded.replace(".", "-").replace(":", "-")
    name = f"imported-{label}"
    lease = Lease(reservation_key(name), name, (address,), released=now, since=int(now))
    return Change("=", lease.key, lease.to_wire())
