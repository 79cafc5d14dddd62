# SPDX-License-Identifier: GPL-3.0-or-later
"""Mutants of a zone's grants: addresses, prefixes, names."""

from __future__ import annotations

from .mutant import LIBRARY, SUPERVISOR, Chaos, Mutant, of

IPAM = f"{SUPERVISOR}/decisions/allocation.py"
DECIDE = f"{SUPERVISOR}/decisions/agent_requests.py"
STATE = f"{SUPERVISOR}/state/zone_state.py"

ADDRESSES = (
    Mutant(
        "quarantine-ignored",
        IPAM,
        "state.oldest_released(now - state.zone.policy.quarantine)",
        "state.oldest_released(now)",
        "the address of a node that left goes to a newcomer at once",
        of(
            "unit/supervisor/decisions/test_agent_requests.py",
            "test_full_pool_takes_the_longest_released_lease_out_of_quarantine",
        ),
        quick=True,
    ),
    Mutant(
        "requested-address-ignored",
        IPAM,
        "address = granted.get(version) or own.get(version)",
        "address = own.get(version)",
        "a node that asks for an address gets another one",
        of("unit/supervisor/decisions/test_agent_requests.py", "test_requested_address"),
        chaos=Chaos(17),
        quick=True,
    ),
    Mutant(
        "address-changes-at-each-join",
        DECIDE,
        "own = held.addresses if held else ()",
        "own: tuple[str, ...] = ()",
        "a node that joins again gets another address",
        of("unit/supervisor/decisions/test_agent_requests.py", "test_lease_is_sticky_over_leave_and_return"),
        chaos=Chaos(17),
        quick=True,
    ),
    Mutant(
        "address-of-the-other-kept",
        IPAM,
        "displaced[owner] = tuple(fresh if other == address else other for other in held)",
        "displaced[owner] = held",
        "a node whose address another one took keeps it as well",
        of("unit/supervisor/decisions/test_agent_requests.py", "test_a_requested_address_moves_to_who_asks"),
    ),
    Mutant(
        "never-is-always",
        DECIDE,
        'may_take = state.zone.policy.takeover != "never"',
        "may_take = True",
        "under the policy 'never' a node takes another one's address",
        of("unit/supervisor/decisions/test_agent_requests.py", "test_address_refused"),
        chaos=Chaos(33),
    ),
    Mutant(
        "always-is-never",
        DECIDE,
        'may_take = state.zone.policy.takeover != "never"',
        'may_take = state.zone.policy.takeover == "stale"',
        "under the policy 'always' a node does not get the address that it asks for",
        of("unit/supervisor/decisions/test_agent_requests.py", "test_a_requested_address_moves_to_who_asks"),
    ),
    Mutant(
        "stale-is-always",
        IPAM,
        'if policy.takeover != "stale" or lease.has_placeholder_key:',
        'if policy.takeover != "never" or lease.has_placeholder_key:',
        "under the policy 'stale' a node that is heard of loses its address",
        of(
            "unit/supervisor/decisions/test_agent_requests.py",
            "test_a_stale_holder_loses_what_another_node_asks_for",
        ),
        chaos=Chaos(34),
    ),
    Mutant(
        "stale-ignores-reports",
        STATE,
        "(lease.since, self.last_seen_at.get(lease.key, 0))",
        "(lease.since,)",
        "under the policy 'stale' a node that only reports counts as silent",
        of(
            "unit/supervisor/decisions/test_agent_requests.py",
            "test_a_stale_holder_loses_what_another_node_asks_for",
        ),
        chaos=Chaos(34),
    ),
    Mutant(
        "stale-while-nobody-listened",
        IPAM,
        "now - max(state.last_seen(lease, now), state.listening_since)",
        "now - state.last_seen(lease, now)",
        "nodes count as silent for the time in which no supervisor ran",
        of(
            "unit/supervisor/decisions/test_agent_requests.py",
            "test_a_stale_holder_loses_what_another_node_asks_for",
        ),
    ),
    Mutant(
        "reserved-address-taken",
        IPAM,
        'if not claimant.may_take or lease.state == "reserved":',
        "if not claimant.may_take:",
        "a node takes an address that the operator reserved for another one",
        of(
            "unit/supervisor/decisions/test_agent_requests.py",
            "test_what_an_operator_reserved_is_never_taken",
        ),
    ),
    Mutant(
        "returned-node-evicted",
        STATE,
        "            if lease is not None and lease.released and self.released_at(lease) == released:",
        "            if lease is not None:",
        "a full pool gives away the address of a node that left once and is in the mesh again",
        of(
            "unit/supervisor/decisions/test_agent_requests.py",
            "test_a_node_that_came_back_loses_nothing_to_a_full_pool",
        ),
    ),
    Mutant(
        "reservation-claimed-by-anybody",
        f"{LIBRARY}/zone/reservations.py",
        "return leases.get(reservation_key(name)) if name else None",
        'return next((lease for lease in leases.values() if lease.state == "reserved"), None)',
        "the first node that joins gets what is reserved for a host of another name",
        of(
            "unit/supervisor/decisions/test_agent_requests.py",
            "test_a_reservation_by_name_waits_for_the_first_node_of_that_name",
        ),
    ),
    Mutant(
        "released-before-free",
        IPAM,
        "if address is None:\n            address, victim",
        "if address is None or (version not in own and state.oldest_released(now - 3600)):\n"
        "            address, victim",
        "a newcomer gets the address of a node that left although others are free",
        of(
            "unit/supervisor/decisions/test_agent_requests.py",
            "test_who_left_keeps_its_address_while_others_are_free",
        ),
    ),
    Mutant(
        "excluded-granted-in-turn",
        f"{SUPERVISOR}/state/pool.py",
        "reserved = IPSet([IPNetwork(prefix) for prefix in excluded]) & IPSet([network])",
        "reserved = IPSet()",
        "a node gets an address that the operator excluded",
        of("unit/supervisor/state/test_pool.py", "test_excluded_addresses_are_nobodys"),
    ),
    Mutant(
        "excluded-granted-on-request",
        IPAM,
        "    if pool.is_reserved(address):",
        "    if address == pool.text(pool.first):",
        "a node that asks for an excluded address, or for the broadcast address, gets it",
        of("unit/supervisor/decisions/test_agent_requests.py", "test_address_refused"),
    ),
    Mutant(
        "ipv6-left-out",
        IPAM,
        "for version in dict.fromkeys(pool.version for pool in state.pools):",
        "for version in dict.fromkeys(pool.version for pool in state.pools if pool.version == 4):",
        "nodes of a zone with IPv6 pools get no IPv6 address",
        of(
            "unit/supervisor/decisions/test_agent_requests.py",
            "test_join_gives_the_lowest_address_of_each_version",
        ),
    ),
    Mutant(
        "overlapping-prefixes-granted",
        IPAM,
        "            if other.key not in keys:",
        "            if other.key not in keys and other.prefix == prefix:",
        "a prefix is granted that lies within another node's",
        of(
            "unit/supervisor/decisions/test_agent_requests.py",
            "test_child_prefixes_are_unique_with_containment",
        ),
    ),
    Mutant(
        "prefix-over-the-pool",
        IPAM,
        "if (pool := ip.overlapping(state.zone.networks, prefix)) is not None:",
        "if (pool := ip.overlapping(state.zone.networks[:0], prefix)) is not None:",
        "a prefix is granted that holds the zone's own addresses",
        of("unit/supervisor/decisions/test_agent_requests.py", "test_child_prefix_refused"),
    ),
    Mutant(
        "kept-prefixes-dropped-at-leave",
        STATE,
        "released=float(released), prefixes=lease.reserved_prefixes, seq=seq",
        "released=float(released), prefixes=(), seq=seq",
        "what the operator reserved for a node is another one's when it leaves",
        of(
            "unit/supervisor/decisions/test_agent_requests.py",
            "test_a_reserved_prefix_stays_the_nodes_while_it_is_away",
        ),
    ),
    Mutant(
        "announced-prefixes-kept-at-leave",
        STATE,
        "released=float(released), prefixes=lease.reserved_prefixes, seq=seq",
        "released=float(released), prefixes=lease.prefixes, seq=seq",
        "the prefixes of a node that left are nobody's for ever",
        of(
            "unit/supervisor/decisions/test_agent_requests.py",
            "test_the_list_of_prefixes_replaces_the_old_one",
        ),
    ),
    Mutant(
        "names-not-unique",
        f"{LIBRARY}/zone/names.py",
        "name = next(name for name in numbered_names(requested) if not is_taken(name))",
        "name = next(numbered_names(requested))",
        "two nodes of a zone have one name",
        of(
            "unit/supervisor/decisions/test_agent_requests.py",
            "test_a_second_node_of_a_name_gets_a_number_and_is_told",
        ),
    ),
    Mutant(
        "tunnel-into-the-mesh",
        f"{LIBRARY}/mesh/preview.py",
        "covered = ip.holding(networks, ip.host_of(endpoint))",
        "covered = ip.holding(networks[:0], ip.host_of(endpoint))",
        "a prefix is granted that covers where a peer's tunnel ends",
        of(
            "unit/supervisor/decisions/test_agent_requests.py",
            "test_a_prefix_that_covers_where_a_tunnel_ends_is_refused",
        ),
    ),
    Mutant(
        "pool-cuts-leases",
        f"{SUPERVISOR}/admin/zones.py",
        "        check_pools(state, zone)",
        "        check_pools(ZoneState(zone, 0, 0), zone)",
        "a zone gets pools that do not hold its leases",
        of("integration/supervisor/admin/test_zones.py", "test_no_pool_cuts_what_it_held"),
    ),
    Mutant(
        "pools-change-unsaid",
        f"{SUPERVISOR}/admin/zones.py",
        "store.change(name, state.head, zone.to_wire(), reload, entry)",
        "store.change(name, state.head, zone.to_wire())",
        "agents are not told to read a zone anew whose pools changed",
        of("integration/supervisor/admin/test_zones.py", "test_pools_grow_and_hold_what_they_held"),
    ),
)
