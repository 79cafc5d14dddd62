# SPDX-License-Identifier: GPL-3.0-or-later
"""Mutants of a zone's times: the clock, the begin of service, the ends of leases."""

from __future__ import annotations

from .mutant import SUPERVISOR, Mutant, of

CLOCK = f"{SUPERVISOR}/monitoring/clock.py"
COMMITTER = f"{SUPERVISOR}/committer/committer.py"
BATCHES = f"{SUPERVISOR}/committer/commit.py"
IPAM = f"{SUPERVISOR}/decisions/allocation.py"
STATE = f"{SUPERVISOR}/state/zone_state.py"
TIMELINESS = f"{SUPERVISOR}/committer/timeliness.py"

TIMES = (
    Mutant(
        "own-clock-decides",
        BATCHES,
        "self.decider.batch(state, entries, self.time.now())",
        "self.decider.batch(state, entries, time.time())",
        "a supervisor whose clock is wrong voids quarantines and robs live nodes",
        of(
            "integration/supervisor/committer/test_listening.py",
            "test_a_wrong_clock_of_this_machine_ends_no_quarantine_and_silences_nobody",
        ),
    ),
    Mutant(
        "own-clock-shared",
        CLOCK,
        "self._latest = max(self._latest, self._carrier() + self._ahead)",
        "self._latest = self._wall()",
        "the shared clock is this machine's",
        of(
            "unit/supervisor/monitoring/test_clock.py",
            "test_it_goes_on_between_two_looks_whatever_the_wall_clock_does",
        ),
    ),
    Mutant(
        "jump-not-noticed",
        CLOCK,
        "if abs(jump) < JUMP_SECONDS:",
        "if abs(jump) < 1e9:",
        "a clock of Redis that was set goes unsaid",
        of(
            "unit/supervisor/monitoring/test_clock.py",
            "test_a_jump_of_redis_is_noticed_once_and_followed_at_once",
        ),
    ),
    Mutant(
        "listens-on-after-a-jump",
        COMMITTER,
        "            self.zones.restart_listening(jump)\n",
        "            log.debug('%s', jump)\n",
        "nodes that report count as silent once Redis's clock was set ahead",
        of(
            "integration/supervisor/committer/test_listening.py",
            "test_a_clock_of_redis_that_is_set_ahead_ends_no_quarantine_and_silences_nobody",
        ),
    ),
    Mutant(
        "listens-on-after-a-halt",
        COMMITTER,
        "            self._check_clock(store)\n            self.zones.restart_listening()\n",
        "            self._check_clock(store)\n",
        "nodes count as silent for the time in which the supervisor stood still",
        of(
            "integration/supervisor/committer/test_listening.py",
            "test_who_was_halted_has_heard_nobody_meanwhile",
        ),
    ),
    Mutant(
        "takes-over-without-listening",
        f"{SUPERVISOR}/committer/served_zones.py",
        "            state.inherit(former)\n        state.restart_listening(self._time.now())\n",
        "            state.inherit(former)\n",
        "a supervisor that starts counts all as silent for as long as nobody ran",
        of("integration/supervisor/committer/test_listening.py", "test_who_starts_has_heard_nobody_before"),
    ),
    Mutant(
        "quarantine-ends-with-a-jump",
        STATE,
        "moment = min(before + max(jump, 0.0), now)",
        "moment = min(before, now)",
        "what is in quarantine is given away once Redis's clock was set ahead",
        of("unit/supervisor/monitoring/test_clock_machine.py", "TestClockMachine::runTest"),
    ),
    Mutant(
        "quarantine-never-ends",
        STATE,
        "moment = min(before + max(jump, 0.0), now)",
        "moment = before + max(jump, 0.0)",
        "what is in quarantine stays there for days once Redis's clock was set back",
        of("unit/supervisor/monitoring/test_clock_machine.py", "TestClockMachine::runTest"),
    ),
    Mutant(
        "future-words-believed",
        STATE,
        "return max((time for time in times if time <= now), default=self.listening_since)",
        "return max(times)",
        "once Redis's clock was set back, a node that is gone counts as heard of for days",
        of(
            "unit/supervisor/decisions/test_agent_requests.py",
            "test_a_node_that_was_heard_before_the_clock_was_set_back_becomes_stale_in_time",
        ),
    ),
    Mutant(
        "quarantined-granted-on-request",
        IPAM,
        "if (until := state.quarantined_until(lease)) > now and not lease.has_placeholder_key:",
        "if (until := state.quarantined_until(lease)) > 2 * now and not lease.has_placeholder_key:",
        "whoever asks for it gets an address that peers still know as another one's",
        of(
            "unit/supervisor/decisions/test_agent_requests.py",
            "test_a_lease_in_quarantine_is_given_to_nobody_else",
        ),
    ),
    Mutant(
        "future-accepted",
        TIMELINESS,
        "    if ahead <= FUTURE_SECONDS:",
        "    if ahead:",
        "a node with a wrong clock makes its key deaf to all later requests",
        of(
            "unit/supervisor/committer/test_timeliness.py",
            "test_a_request_is_refused_whose_sender_gave_up_or_is_a_day_ahead",
        ),
    ),
    Mutant(
        "expiry-ignored",
        TIMELINESS,
        "    if request.expires and request.expires / 1000 < now:",
        "    if request.expires < 0:",
        "an order is carried out long after its sender gave up",
        of(
            "unit/supervisor/committer/test_timeliness.py",
            "test_a_request_is_refused_whose_sender_gave_up_or_is_a_day_ahead",
        ),
    ),
    Mutant(
        "wrong-clock-leads",
        COMMITTER,
        "leadership.reluctant = self.time.is_off",
        "leadership.reluctant = False",
        "a supervisor whose clock is off keeps the lead from one whose clock is right",
        of(
            "integration/supervisor/monitoring/test_wrong_clocks.py",
            "test_who_has_a_wrong_clock_says_so_and_leads_only_where_nobody_else_would",
        ),
    ),
)
