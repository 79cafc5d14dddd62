# SPDX-License-Identifier: GPL-3.0-or-later
"""Mutants of commits, of followers and of replies: scripts in Redis, the committer, the log."""

from __future__ import annotations

from .mutant import LIBRARY, SUPERVISOR, Mutant, of

COMMIT = f"{SUPERVISOR}/store/scripts/commit.lua"
BUMP = f"{SUPERVISOR}/store/scripts/bump.lua"
COMMON = f"{SUPERVISOR}/store/scripts/common.lua"
COMMITTER = f"{SUPERVISOR}/committer/committer.py"
BATCHES = f"{SUPERVISOR}/committer/commit.py"
STATE = f"{SUPERVISOR}/state/zone_state.py"

COMMITS = (
    Mutant(
        "position-not-compared",
        COMMIT,
        "if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then return 'CONFLICT' end",
        "if meta[1] ~= ARGV[1] then return 'CONFLICT' end",
        "two supervisors give one address to two nodes",
        of(
            "integration/supervisor/committer/test_committer.py",
            "test_a_lost_compare_and_set_is_decided_anew",
        ),
        quick=True,
    ),
    Mutant(
        "run-id-not-compared",
        COMMIT,
        "if meta[3] ~= server_run_id() then return 'INCARNATION' end",
        "",
        "revisions that a restarted Redis lost are used again",
        of(
            "integration/supervisor/committer/test_commit.py",
            "test_a_redis_that_started_anew_takes_no_commit_before_a_new_epoch",
        ),
    ),
    Mutant(
        "change-not-compared",
        f"{SUPERVISOR}/store/scripts/change.lua",
        "if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then return 'CONFLICT' end",
        "if meta[1] ~= ARGV[1] then return 'CONFLICT' end",
        "a zone gets pools that were checked against leases of before",
        of(
            "integration/supervisor/committer/test_commit.py",
            "test_a_zone_is_changed_only_as_it_was_when_that_was_checked",
        ),
    ),
    Mutant(
        "answered-before-written",
        COMMIT,
        "local meta = redis.call(",
        "local a = 13 + 2 * ARGV[12] + ARGV[7] + ARGV[8] + ARGV[9] + ARGV[10] for i = 7 + ARGV[12], #KEYS do "
        "redis.call('XADD', KEYS[i], '*', ARGV[a], ARGV[a + 1]) a = a + 4 end local meta = redis.call(",
        "a node is told a lease that was not committed",
        of("integration/supervisor/committer/test_commit.py", "test_what_was_not_committed_is_not_answered"),
    ),
    Mutant(
        "answers-not-written",
        COMMIT,
        "for i = 7 + hashes, #KEYS do",
        "for i = 8 + hashes, #KEYS do",
        "the first of those who asked together waits in vain",
        of(
            "integration/supervisor/committer/test_commit.py",
            "test_who_asked_together_is_answered_one_by_one",
        ),
    ),
    Mutant(
        "leases-not-written",
        COMMIT,
        "write('HSET', KEYS[3], ARGV[9])",
        "at = at + tonumber(ARGV[9])",
        "a peer is in the mesh without a lease",
        of(
            "integration/supervisor/committer/test_commit.py",
            "test_a_lease_is_written_beside_its_peer_and_stays_when_that_leaves",
        ),
    ),
    Mutant(
        "peers-not-removed",
        COMMIT,
        "write('HDEL', KEYS[2], ARGV[8])",
        "at = at + tonumber(ARGV[8])",
        "a node that left is a peer of whoever reads the zone anew",
        of(
            "integration/supervisor/committer/test_commit.py",
            "test_a_node_that_left_is_no_peer_of_who_reads_the_zone_anew",
        ),
    ),
    Mutant(
        "revision-not-written",
        COMMIT,
        "redis.call('HSET', KEYS[1], 'rev', rev, 'mark', ARGV[4])",
        "redis.call('HSET', KEYS[1], 'rev', meta[2], 'mark', ARGV[4])",
        "the zone stands behind its log, and no further commit passes",
        of("integration/supervisor/committer/test_commit.py", "test_what_changes_nothing_makes_no_event"),
    ),
    Mutant(
        "event-without-a-change",
        f"{SUPERVISOR}/store/commit_args.py",
        """f"[{','.join(change.to_wire() for change in logged)}]" if changes else "",""",
        """f"[{','.join(change.to_wire() for change in logged)}]",""",
        "each answer that changes nothing wakes all agents, and supervisors fall behind the log",
        of("integration/supervisor/committer/test_commit.py", "test_what_changes_nothing_makes_no_event"),
    ),
    Mutant(
        "wait-not-written",
        f"{SUPERVISOR}/store/commit_args.py",
        'wait_ms if wait_ms != state.wait_ms else "",',
        '"",',
        "agents of a large zone are woken as often as those of a small one",
        of("integration/supervisor/committer/test_committer.py", "test_wait_ms_grows_with_the_zone"),
    ),
    Mutant(
        "bump-reuses-the-revision",
        BUMP,
        "rev = string.format('%d', rev + 1)",
        "rev = string.format('%d', rev)",
        "two events of a log have one revision",
        of(
            "integration/supervisor/committer/test_committer.py",
            "test_restarted_redis_opens_an_epoch_and_gets_its_users_back",
        ),
    ),
    Mutant(
        "bump-keeps-the-epoch",
        BUMP,
        "local opened = string.format('%.0f', math.max(now_ms(), epoch + 1, over + 1, last_epoch + 1))",
        "local opened = meta[1]",
        "agents do not see that Redis lost revisions which they know",
        of("integration/supervisor/committer/test_committer.py", "test_lost_revisions_are_never_used_again"),
    ),
    Mutant(
        "bump-forgets-the-history",
        COMMON,
        "redis.call('HSET', key, 'history', appended(history, epoch .. '-' .. rev))",
        "",
        "agents cannot tell what was lost from what was removed",
        of(
            "integration/supervisor/committer/test_commit.py",
            "test_a_new_epoch_says_where_the_one_before_ended",
        ),
    ),
    Mutant(
        "mark-not-compared",
        COMMIT,
        "if differ(meta[4], ARGV[3]) then return 'CONFLICT' end",
        "",
        "a supervisor commits on a Redis that was put back to an older copy and counted on to where it stood",
        of(
            "integration/supervisor/monitoring/test_fork_detection.py",
            "test_a_commit_on_another_history_of_equal_length_is_refused",
        ),
    ),
    Mutant(
        "mark-not-written",
        COMMIT,
        "redis.call('HSET', KEYS[1], 'rev', rev, 'mark', ARGV[4])",
        "redis.call('HSET', KEYS[1], 'rev', rev)",
        "a running Redis that is put back to an older copy and counts on is noticed by nobody",
        of(
            "integration/supervisor/monitoring/test_fork_detection.py",
            "test_each_commit_names_the_one_before",
        ),
    ),
    Mutant(
        "put-back-without-a-new-epoch",
        f"{SUPERVISOR}/monitoring/fork_detection.py",
        "if differs and known is not None and store.bump(zone, over=known.epoch):",
        "if differs and known is not None and store.bump(zone):",
        "revisions that a running Redis lost are used again, and waiting agents do not hear of it",
        of(
            "integration/supervisor/monitoring/test_fork_detection.py",
            "test_a_supervisor_that_serves_notices_before_it_commits",
        ),
    ),
    Mutant(
        "partly-put-back-without-a-new-epoch",
        BUMP,
        "  rev = math.max(rev, natural(string.match(record, '\"r\":(%d+)')) or 0)",
        "  rev = rev + 0",
        "agents leave aside new records, since those that they have seem newer",
        of(
            "integration/supervisor/monitoring/test_fork_detection.py",
            "test_meta_data_that_are_older_than_the_rest_give_no_revision_twice",
        ),
    ),
    Mutant(
        "conflict-not-undone",
        BATCHES,
        "            return True\n        state.undo(batch.undos)\n",
        "            return True\n",
        "a supervisor whose commit failed follows the log with decisions that nobody sees",
        of(
            "integration/supervisor/committer/test_committer.py",
            "test_a_lost_compare_and_set_is_decided_anew",
        ),
    ),
    Mutant(
        "refused-commit-not-undone",
        BATCHES,
        "        except redis.ResponseError as error:\n            state.undo(batch.undos)\n",
        "        except redis.ResponseError as error:\n",
        "what Redis refused counts as granted",
        of(
            "integration/supervisor/committer/test_commit.py",
            "test_a_request_that_redis_refuses_harms_only_itself",
        ),
    ),
    Mutant(
        "leases-of-others-not-followed",
        STATE,
        "return self.put(change.key, self.peers.get(change.key), kept)",
        "return self.put(change.key, self.peers.get(change.key), kept if peer else lease)",
        "what an operator reserved by one supervisor another one gives away",
        of("unit/supervisor/decisions/test_agent_requests.py", "test_what_holds_after_any_requests"),
    ),
    Mutant(
        "events-out-of-order-followed",
        f"{LIBRARY}/zone/events.py",
        "if head.epoch not in (self.epoch, self.previous_epoch) or self.rev != head.rev + 1:",
        "if head.epoch not in (self.epoch, self.previous_epoch):",
        "a supervisor goes on although it missed a part of the log",
        of("unit/supervisor/state/test_zone_state.py", "test_what_does_not_follow_is_a_gap"),
    ),
    Mutant(
        "changed-zone-not-followed",
        STATE,
        "if not event.is_next(self.head) or event.zone_changed:",
        "if not event.is_next(self.head):",
        "a supervisor decides by a policy that was changed",
        of("integration/supervisor/admin/test_zones.py", "test_a_running_supervisor_uses_a_changed_policy"),
    ),
    Mutant(
        "inbox-cut-from-the-wrong-end",
        f"{SUPERVISOR}/store/store.py",
        "self.redis.ltrim(inbox, 0, max(kept, 1) - 1)",
        "self.redis.ltrim(inbox, -kept, -1)",
        "a flood pushes out those who wait longest",
        of(
            "integration/supervisor/committer/test_committer.py",
            "test_a_flooded_inbox_is_cut_and_who_waits_longest_is_served",
        ),
    ),
    Mutant(
        "one-bad-request-harms-all",
        BATCHES,
        "        for entry in entries:\n            self.commit(store, zone, [entry])",
        "        for entry in entries[:0]:\n            self.commit(store, zone, [entry])",
        "those who asked together with a request that Redis refuses are not answered",
        of(
            "integration/supervisor/committer/test_commit.py",
            "test_a_request_that_redis_refuses_harms_only_itself",
        ),
    ),
    Mutant(
        "storms-in-one-commit",
        f"{SUPERVISOR}/committer/batch.py",
        "            if batch.size > COMMIT_BYTES:",
        "            if batch.size < 0:",
        "a storm of joins makes a commit that Redis refuses",
        of(
            "integration/supervisor/committer/test_committer.py",
            "test_a_commit_stays_well_below_what_redis_takes_as_one_argument",
        ),
    ),
)
