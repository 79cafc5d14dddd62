# SPDX-License-Identifier: GPL-3.0-or-later
"""Mutants of the restoration after Redis lost its data, and of the removal of old data."""

from __future__ import annotations

from .mutant import LIBRARY, SUPERVISOR, Mutant, of

RECOVERY = f"{SUPERVISOR}/recovery/recovery.py"
EXPIRY = f"{SUPERVISOR}/committer/lease_expiry.py"
LOG_BOUND = f"{SUPERVISOR}/committer/log_trimming.py"

LOSSES = (
    Mutant(
        "restored-over-what-is-there",
        f"{SUPERVISOR}/recovery/plan.py",
        "return Relation.NEWER if known[1] <= ends[known[0]] else Relation.OLDER",
        "return Relation.NEWER if known[1] <= ends[known[0]] else Relation.RECREATED",
        "leases go into a zone that an operator put back to an older state",
        of("unit/supervisor/recovery/test_plan.py", "test_a_zones_history_says_whether_it_contains_the_copy"),
    ),
    Mutant(
        "older-copy-wins",
        RECOVERY,
        "if status.restored is not None and copy.position < status.restored:",
        "if status.restored is not None and copy.position > status.restored:",
        "after a loss the copy of the supervisor that comes first stands, however old it is",
        of(
            "integration/supervisor/recovery/test_recovery.py",
            "test_the_newest_copy_wins_whoever_comes_first[older]",
        ),
    ),
    Mutant(
        "operators-word-overwritten",
        f"{SUPERVISOR}/store/scripts/change.lua",
        "redis.call('HSET', KEYS[1], 'confirmed', '1')",
        "",
        "what an operator changes after a loss is overwritten by a supervisor's copy",
        of(
            "integration/supervisor/recovery/test_recovery.py",
            "test_what_an_operator_says_after_a_loss_stands_before_any_copy",
        ),
    ),
    Mutant(
        "copy-of-a-removed-zone-used",
        RECOVERY,
        "return status.readded and found is Relation.RECREATED",
        "return status.readded and found is Relation.OLDER",
        "a zone that was removed and made again has the leases of before",
        of(
            "integration/supervisor/recovery/test_recovery.py",
            "test_a_zone_that_was_removed_and_made_again_begins_with_nothing",
        ),
    ),
    Mutant(
        "lost-nodes-lose-their-addresses",
        f"{SUPERVISOR}/recovery/plan.py",
        "        if why is None:\n",
        "        if why is None and is_reserved(lease):\n",
        "after a loss newcomers get the addresses of nodes that are down",
        of(
            "integration/supervisor/recovery/test_recovery.py",
            "test_addresses_of_nodes_that_are_down_go_to_no_newcomer_after_a_loss",
        ),
    ),
    Mutant(
        "password-not-put-back",
        RECOVERY,
        "if copy is not None and copy.digest and not status.digest:",
        "if copy is not None and copy.digest and not copy.digest:",
        "the agents of a tenant are locked out once Redis lost the password of their zone",
        of(
            "integration/supervisor/recovery/test_recovery.py",
            "test_a_part_that_was_lost_comes_back_alone[lost2]",
        ),
    ),
    Mutant(
        "expiry-ignores-quarantine",
        f"{LIBRARY}/zone/policy.py",
        "max(self.forget_after, self.quarantine)",
        "self.forget_after",
        "a lease ends while peers may still route to its node",
        of(
            "integration/supervisor/committer/test_lease_expiry.py",
            "test_no_lease_ends_within_its_quarantine",
        ),
    ),
    Mutant(
        "imported-addresses-expire",
        EXPIRY,
        "        if not lease.has_placeholder_key:",
        "        if lease.key:",
        "an imported address is given away before its node came",
        of(
            "integration/supervisor/committer/test_lease_expiry.py",
            "test_reservations_imported_addresses_and_nodes_in_the_mesh_stay",
        ),
    ),
    Mutant(
        "nothing-expires",
        EXPIRY,
        'return [Change("=", key) for key in ended]',
        'return [Change("=", key) for key in ended if key in state.peers]',
        "churn fills the zone with leases of nodes that never come back",
        of(
            "integration/supervisor/committer/test_lease_expiry.py",
            "test_a_lease_ends_a_month_after_its_node_left_unless_somebody_says_otherwise",
        ),
    ),
    Mutant(
        "log-unbounded",
        LOG_BOUND,
        "if size <= LOG_BYTES or length <= 1:",
        "if size <= LOG_BYTES or length:",
        "large commits fill the memory of Redis with the log",
        of(
            "integration/supervisor/committer/test_log_trimming.py",
            "test_a_log_of_large_commits_is_cut_to_its_bytes_and_keeps_the_newest",
        ),
    ),
    Mutant(
        "log-cut-too-far",
        LOG_BOUND,
        'minid=f"{old[1]}-{old[2] + 1}"',
        'minid=f"{state.epoch}-{state.rev}"',
        "events go that a node needs, to tell a removal from a loss",
        of("integration/supervisor/committer/test_log_trimming.py", "test_events_go_when_their_time_is_over"),
    ),
)
