# SPDX-License-Identifier: GPL-3.0-or-later
"""Mutants of the permissions and effects of requests: nodes, operators, observers."""

from __future__ import annotations

from .mutant import LIBRARY, SUPERVISOR, Chaos, Mutant, of

DECIDE = f"{SUPERVISOR}/decisions/agent_requests.py"
ORDERS = f"{SUPERVISOR}/decisions/operator_requests.py"
ADMISSION = f"{SUPERVISOR}/decisions/decision.py"

MEMBERS = (
    Mutant(
        "leave-not-done",
        DECIDE,
        'changed=joined), (Change("-", request.key, record),))',
        "changed=joined))",
        "a node is told that it left and stays in the zone",
        of("unit/supervisor/decisions/test_agent_requests.py", "test_lease_is_sticky_over_leave_and_return"),
        chaos=Chaos(17),
        quick=True,
    ),
    Mutant(
        "release-not-done",
        ORDERS,
        "return Decision(replace(ABSENT, changed=True), end_lease(state, lease, now))",
        "return Decision(replace(ABSENT, changed=True))",
        "an operator is told that a lease is free and it is not",
        of("unit/supervisor/decisions/test_agent_requests.py", "test_operators_orders"),
        chaos=Chaos(17),
    ),
    Mutant(
        "endpoint-not-done",
        DECIDE,
        "return admit(state, record, Grant(peer.addresses), now)",
        "return replace(admit(state, record, Grant(peer.addresses), now), changes=())",
        "a node that moved is told so and peers look for it where it was",
        of("unit/supervisor/decisions/test_agent_requests.py", "test_endpoint"),
    ),
    Mutant(
        "rekey-leaves-the-old-key",
        ORDERS,
        "freed = end_lease(state, source, now) if source else ()",
        "freed: tuple[Change, ...] = ()",
        "after a rekey the old key has what the new one got",
        of(
            "unit/supervisor/decisions/test_agent_requests.py",
            "test_a_host_installed_anew_gets_back_what_it_had",
        ),
    ),
    Mutant(
        "reservation-not-claimed",
        DECIDE,
        "freed = end_lease(state, reservation, now) if reservation else ()",
        "freed: tuple[Change, ...] = ()",
        "a reservation that a node claimed waits for the next one, with the same address",
        of(
            "unit/supervisor/decisions/test_agent_requests.py",
            "test_a_reservation_by_name_waits_for_the_first_node_of_that_name",
        ),
    ),
    Mutant(
        "repeated-join-is-a-change",
        ADMISSION,
        "and peer._replace(seq=known.seq, rev=known.rev) == known",
        "and peer == known",
        "each join of a node that is there already makes an event",
        of("unit/supervisor/decisions/test_agent_requests.py", "test_repeated_join_changes_nothing"),
    ),
    Mutant(
        "repeat-takes-back",
        DECIDE,
        "if request.key in state.peers and lease is not None and lease.seq == request.seq:",
        "if request.key in state.peers and lease is not None and lease.seq > request.seq:",
        "a repeated request takes back what another node was given since",
        of("unit/supervisor/decisions/test_agent_requests.py", "test_a_repeated_request_takes_nothing_back"),
    ),
    Mutant(
        "old-requests-accepted",
        DECIDE,
        "if lease is not None and request.seq < lease.seq:",
        "if lease is not None and request.seq < 0:",
        "a request that was under way for long undoes a later one",
        of("unit/supervisor/decisions/test_agent_requests.py", "test_stale_requests_are_dropped"),
    ),
    Mutant(
        "superseded-machine-obeyed",
        DECIDE,
        'if request.op in ("leave", "endpoint") and request.machine_id',
        'if request.op == "leave" and request.machine_id',
        "a copied machine moves the peer that joined with its key after it",
        of(
            "unit/supervisor/decisions/test_agent_requests.py",
            "test_a_machine_that_was_superseded_neither_moves_nor_removes_the_peer",
        ),
    ),
    Mutant(
        "superseded-machine-heard",
        f"{SUPERVISOR}/decisions/last_seen.py",
        'if peer is not None and request.machine_id and peer.machine_id not in ("", request.machine_id):',
        "if peer is not None and request.machine_id and not peer.machine_id:",
        "the reports of a copied machine keep the lease of another one alive",
        of(
            "integration/supervisor/decisions/test_last_seen.py",
            "test_who_says_nothing_of_the_node_that_has_the_key",
        ),
    ),
    Mutant(
        "other-zones-requests-served",
        f"{LIBRARY}/zone/requests.py",
        'if data.get("zone") != zone:',
        'if not data.get("zone"):',
        "a request for one zone is granted in another one",
        of("integration/supervisor/committer/test_committer.py", "test_poison_is_counted_by_reason"),
    ),
    Mutant(
        "orders-of-nodes-obeyed",
        f"{LIBRARY}/zone/requests.py",
        'if data.get("op") not in ops:',
        'if data.get("op") not in (*ops, *OPERATOR_OPS):',
        "a node that knows the agents' password gives orders",
        of("integration/supervisor/committer/test_committer.py", "test_poison_is_counted_by_reason"),
    ),
    Mutant(
        "reports-of-strangers-heard",
        f"{SUPERVISOR}/decisions/last_seen.py",
        "if request.key not in state.leases or (request.op == REPORT and peer is None):",
        "if request.key not in state.leases and request.op != REPORT:",
        "whoever knows the agents' password grows the table of who was seen",
        of(
            "integration/supervisor/decisions/test_last_seen.py",
            "test_who_says_nothing_of_the_node_that_has_the_key",
        ),
    ),
    Mutant(
        "reports-not-kept",
        f"{SUPERVISOR}/store/store.py",
        "        if times:\n            self.redis.hset(",
        "        if None in times:\n            self.redis.hset(",
        "nobody knows when a node was last seen",
        of("integration/supervisor/decisions/test_last_seen.py", "test_what_was_seen_goes_with_the_lease"),
        chaos=Chaos(17),
    ),
    Mutant(
        "seen-outlives-the-lease",
        f"{SUPERVISOR}/store/store.py",
        "if gone := [key for key in left if key not in state.leases]:",
        "if gone := [key for key in left if key in state.leases]:",
        "the table of who was seen grows for ever, and forgets who is there",
        of("integration/supervisor/decisions/test_last_seen.py", "test_what_was_seen_goes_with_the_lease"),
    ),
    Mutant(
        "used-up-join-tokens-admit",
        f"{LIBRARY}/zone/join_tokens.py",
        "return now < self.expires and len(self.used) < self.uses",
        "return now < self.expires",
        "a join token for one node lets any number in",
        of(
            "unit/supervisor/decisions/test_admission.py",
            "test_no_more_keys_join_with_a_token_than_it_has_uses",
        ),
    ),
    Mutant(
        "names-reserved-admit",
        f"{SUPERVISOR}/decisions/admission.py",
        'if request.op != "join" or request.key in state.leases:',
        'if request.op != "join" or request.key in state.leases or state.other_keys_named(request.name, ()):',
        "whoever calls its node by a reserved name needs no join token",
        of(
            "unit/supervisor/decisions/test_admission.py",
            "test_a_reservation_by_name_admits_no_key_without_a_token_for_that_name",
        ),
    ),
    Mutant(
        "observers-behind-a-nat-believed",
        f"{LIBRARY}/mesh/endpoints.py",
        "return bool(observer.endpoint) and not observer.observed",
        "return bool(observer.endpoint)",
        "a node behind a NAT says where the world sees its neighbour",
        of("unit/supervisor/state/test_endpoint_observations.py", "test_who_is_behind_a_nat_is_not_heard"),
    ),
    Mutant(
        "observers-outvote-relays",
        f"{SUPERVISOR}/state/endpoint_observations.py",
        "return by_rank[True] or by_rank[False]",
        "return by_rank[False] or by_rank[True]",
        "any node overrides where relays see a peer",
        of(
            "unit/supervisor/state/test_endpoint_observations.py",
            "test_relays_and_fixed_endpoints_outweigh_others",
        ),
    ),
    Mutant(
        "endpoint-inside-the-mesh-believed",
        f"{SUPERVISOR}/state/endpoint_observations.py",
        "if fresh and not inside:",
        "if fresh:",
        "a peer is looked for inside the tunnel that leads to it",
        of(
            "unit/supervisor/state/test_endpoint_observations.py",
            "test_an_endpoint_inside_the_mesh_is_not_believed",
        ),
    ),
    Mutant(
        "release-of-the-lost-unsaid",
        ADMISSION,
        'return Decision(ABSENT, (Change("-", key),))',
        "return Decision(ABSENT)",
        "nodes keep a tunnel to a machine that was removed after Redis had lost it",
        of(
            "integration/supervisor/api/test_writes.py",
            "test_the_removal_of_a_peer_that_redis_lost_reaches_the_nodes_that_retain_it",
        ),
    ),
    Mutant(
        "leave-of-the-lost-unsaid",
        ADMISSION,
        "if listed or (may_be_retained(state.epoch, now) and not waits):",
        "if listed:",
        "nodes keep a tunnel to a machine whose lease was released while Redis had lost its record",
        of(
            "unit/supervisor/decisions/test_agent_requests.py",
            "test_nodes_that_retain_a_peer_hear_that_it_goes_also_where_only_its_lease_is_known",
        ),
    ),
)
