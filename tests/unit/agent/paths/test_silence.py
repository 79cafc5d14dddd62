# SPDX-License-Identifier: GPL-3.0-or-later
"""The log lines about peers that stop and start answering, and about addresses that a node lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from jaywalk_agent.paths.silence import SETTLE_SECONDS, OwnAddresses, Silences
from tests.agent_support import event, peer, view_of

NAMES = {f"key{number}": f"web{number}" for number in range(100)}
START = 1_800_000_000.0


class Log:
    """Silences on a simulated clock, and all their lines."""

    def __init__(self) -> None:
        self.silences = Silences()
        self.now = START
        self.lines: list[tuple[int, str]] = []

    def observe(self, answers: Mapping[str, bool | None], seconds: float = 2 * SETTLE_SECONDS) -> list[str]:
        """The lines of some seconds in which nothing changes."""
        lines = []
        start, until = self.now, self.now + seconds
        while self.now < until:
            silent = {False: self.now - start + 20.0, True: 0.0, None: None}
            silences = {key: silent[answer] for key, answer in answers.items()}
            lines += self.silences.observe(silences, NAMES, self.now)
            self.now += 1.0
        self.lines += lines
        return [sentence for _, sentence in lines]


def test_one_peer_that_stops_and_resumes_makes_two_lines() -> None:
    log = Log()
    assert log.observe({"key2": True}) == []
    since = time.strftime("%H:%M:%S", time.localtime(log.now - 20))
    assert log.observe({"key2": False}, 80) == [f"peer web2 is silent since {since}"]
    assert log.observe({"key2": True}) == ["peer web2 answers again after 100 s"]
    assert [level for level, _ in log.lines] == [logging.WARNING, logging.INFO]
    assert log.observe({"key2": True}) == []


def test_many_peers_at_once_make_one_line() -> None:
    log = Log()
    log.observe(dict.fromkeys(NAMES, True))
    away = {key: int(key[3:]) >= 37 for key in NAMES}
    (gone,) = log.observe(away, 600)
    assert gone.startswith("37 peers (web0, web1, web10 and 34 more) are silent since ")
    assert log.observe(dict.fromkeys(NAMES, True)) == [
        "37 peers (web0, web1, web10 and 34 more) answer again after 10 min at most"
    ]


def test_a_moment_of_silence_makes_no_line() -> None:
    log = Log()
    log.observe({"key2": True})
    assert log.observe({"key2": False}, 1.0) == []
    assert log.observe({"key2": True}) == []
    assert log.observe({"key2": False}) != []
    assert log.observe({"key2": True}, 1.0) == []
    assert log.observe({"key2": False}, 60.0) == []


def test_a_peer_that_never_answered_and_one_that_left_make_one_line_each() -> None:
    log = Log()
    assert log.observe({"key1": None, "key2": False}, 60) == ["peer web2 does not answer"]
    assert log.observe({"key1": True, "key2": True}) == ["peer web2 answers after 80 s"]
    assert log.observe({"key1": False, "key2": True}, 60)
    assert log.observe({"key2": True}) == [], "key1 left the zone"


def test_an_address_that_another_node_got_is_named() -> None:
    view = view_of(peer(0), peer(1))
    own = OwnAddresses(peer(0).key, view)
    assert own.observe(view) == []
    event(view, peer(0)._replace(addresses=("10.20.0.99",)), peer(1)._replace(addresses=("10.20.0.1",)))
    (sentence,) = own.observe(view)
    assert "lost 10.20.0.1 to peer node1, and has 10.20.0.99 now" in sentence
    assert own.observe(view) == []
    event(view, peer(0)._replace(addresses=("10.20.0.98",)))
    assert own.observe(view) == [], "nobody has 10.20.0.99"
    assert OwnAddresses(peer(0).key, None).observe(view) == []
