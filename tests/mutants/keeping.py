# SPDX-License-Identifier: GPL-3.0-or-later
"""Mutants of the handling of invalid and lost data, and of limits: records, replies, passwords."""

from __future__ import annotations

from .mutant import LIBRARY, SUPERVISOR, Mutant, of

COMMIT = f"{SUPERVISOR}/store/scripts/commit.lua"
ACL = f"{SUPERVISOR}/store/acl.py"
ANSWERS = f"{SUPERVISOR}/store/reply_trimming.py"

KEEPING = (
    Mutant(
        "unreadable-address-given-away",
        f"{SUPERVISOR}/state/zone_state.py",
        "                if pool is not None and pool.owner_of(address) is None:\n",
        "                if pool is None:\n",
        "the address of a node whose record was spoilt goes to the next newcomer",
        of(
            "unit/supervisor/state/test_unreadable.py",
            "test_addresses_that_stand_in_a_spoilt_record_are_held",
        ),
    ),
    Mutant(
        "unknown-address-given-away",
        f"{SUPERVISOR}/decisions/allocation.py",
        "        if version in mark.unknown and mark.key not in keys:",
        "        if version not in mark.unknown and mark.key not in keys:",
        "a zone grows although the next address may be that of a record which cannot be read",
        of(
            "unit/supervisor/state/test_unreadable.py",
            "test_a_zone_gives_no_new_address_while_one_may_be_an_unreadable_records",
        ),
    ),
    Mutant(
        "unreadable-prefix-granted",
        f"{SUPERVISOR}/decisions/allocation.py",
        "        if not mark.prefixes_known or ip.overlapping(",
        "        if ip.overlapping(",
        "a prefix is granted that may be that of a record which cannot be read",
        of(
            "unit/supervisor/state/test_unreadable.py",
            "test_a_prefix_that_may_be_an_unreadable_records_is_not_taken",
        ),
    ),
    Mutant(
        "unreadable-overwritten",
        f"{SUPERVISOR}/decisions/agent_requests.py",
        "if mark is not None and not (mark.covered or own or released):",
        "if mark is not None and not mark.lease:",
        "what is left of a spoilt record is overwritten by an order about something else",
        of("unit/supervisor/state/test_unreadable.py", "test_no_other_order_overwrites_what_it_cannot_read"),
    ),
    Mutant(
        "default-password-opens",
        ACL,
        "if not digest and store.redis.hexists(keys.meta, SHUT_TO_DEFAULT):",
        "if not digest and not default_digest:",
        "the password of all zones opens a tenant's whose own was lost",
        of(
            "integration/supervisor/store/test_acl.py",
            "test_a_zone_that_lost_its_own_password_stays_shut_to_the_default_one",
        ),
    ),
    Mutant(
        "own-password-forgotten",
        f"{SUPERVISOR}/store/scripts/create.lua",
        "if redis.call('HEXISTS', KEYS[5], 'agent') == 1 then "
        "redis.call('HSET', KEYS[1], 'own_password', '1') end",
        "",
        "a zone whose head was lost forgets that the password of all zones does not open it",
        of(
            "integration/supervisor/store/test_acl.py",
            "test_a_zone_whose_meta_data_were_lost_still_had_its_own_password",
        ),
    ),
    Mutant(
        "answers-unbounded",
        COMMIT,
        "redis.call('XADD', KEYS[i], 'MAXLEN', ARGV[at + 2], '*', ARGV[at], ARGV[at + 1])",
        "redis.call('XADD', KEYS[i], '*', ARGV[at], ARGV[at + 1])",
        "one client that repeats itself fills the memory of Redis",
        of(
            "integration/supervisor/committer/test_answers.py",
            "test_a_flood_of_fresh_nonces_leaves_a_bounded_number_of_answers",
        ),
    ),
    Mutant(
        "answers-for-ever",
        COMMIT,
        "redis.call('EXPIRE', KEYS[i], ARGV[at + 3])",
        "redis.call('PERSIST', KEYS[i])",
        "answers that were read long ago stay in Redis",
        of(
            "integration/supervisor/committer/test_answers.py",
            "test_an_agent_of_an_older_version_is_answered_in_its_own_stream",
        ),
    ),
    Mutant(
        "own-streams-unbounded",
        ANSWERS,
        "return [names.popleft() for _ in range(len(names) - MAX_OWN_STREAMS)]",
        "return [names.popleft() for _ in range(len(names) - MAX_OWN_STREAMS)][:0]",
        "a client that asks as older ones did fills the memory of Redis",
        of(
            "integration/supervisor/committer/test_answers.py",
            "test_a_flood_in_the_form_of_an_older_version_leaves_a_bounded_number_of_streams",
        ),
    ),
    Mutant(
        "long-answers-unbounded",
        ANSWERS,
        "kept = max(1, min(MAX_SHARED, SHARED_BYTES // len(text)))",
        "kept = MAX_SHARED",
        "long refusals fill the memory of Redis",
        of(
            "integration/supervisor/committer/test_answers.py",
            "test_long_answers_are_kept_in_smaller_numbers",
        ),
    ),
    Mutant(
        "any-answer-is-the-own",
        f"{LIBRARY}/zone/reply_streams.py",
        "                    if field in self._fields and ",
        "                    if field and ",
        "a node takes what another one was told for its own lease",
        of(
            "unit/jaywalk/zone/test_reply_streams.py",
            "test_the_own_answer_is_found_among_those_of_others_and_each_entry_is_read_once",
        ),
    ),
    Mutant(
        "repeat-answered-anew",
        f"{SUPERVISOR}/committer/batch.py",
        "        self._answered.record(batch.changing)",
        "        self._answered.record({})",
        "a request that came twice is answered as if it had changed nothing, or is carried out twice",
        of(
            "integration/supervisor/committer/test_committer.py",
            "test_a_repeated_order_undoes_nothing_that_was_ordered_since",
        ),
    ),
)
