# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines of the log about peers that fall silent and come back, and about addresses that were lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from jaywalk_agent.paths.silence import SETTLE_SECONDS, OwnAddresses, Silences
from tests.agent_support import event, peer, view_of

NAMES = {f"key{number}": f"web{number}" for number in range(100)}
START = 1_800_000_000.0


class Log:
    """Silences on a clock of their own, and all that they said."""

    def __init__(self) -> None:
        self.silences = Silences()
        self.now = START
        self.lines: list[tuple[int, str]] = []

    def see(self, answers: Mapping[str, bool | None], seconds: float = 2 * SETTLE_SECONDS) -> list[str]:
        """What is said within some seconds in which nothing changes."""
        said = []
        start, until = self.now, self.now + seconds
        while self.now < until:
            silent = {False: self.now - start + 20.0, True: 0.0, None: None}
            silences = {key: silent[each] for key, each in answers.items()}
            said += self.silences.observe(silences, NAMES, self.now)
            self.now += 1.0
        self.lines += said
        return [sentence for _, sentence in said]


def test_one_peer_that_goes_and_comes_back_is_two_lines() -> None:
    log = Log()
    assert log.see({"key2": True}) == []
    since = time.strftime("%H:%M:%S", time.localtime(log.now - 20))
    assert log.see({"key2": False}, 80) == [f"peer web2 is silent since {since}"]
    assert log.see({"key2": True}) == ["peer web2 answers again after 100 s"]
    assert [level for level, _ in log.lines] == [logging.WARNING, logging.INFO]
    assert log.see({"key2": True}) == []


def test_many_at_once_are_one_line() -> None:
    log = Log()
    log.see(dict.fromkeys(NAMES, True))
    away = {key: int(key[3:]) >= 37 for key in NAMES}
    (gone,) = log.see(away, 600)
    assert gone.startswith("37 peers (web0, web1, web10 and 34 more) are silent since ")
    assert log.see(dict.fromkeys(NAMES, True)) == [
        "37 peers (web0, web1, web10 and 34 more) answer again after 10 min at most"
    ]


def test_a_moment_of_silence_is_not_worth_a_line() -> None:
    log = Log()
    log.see({"key2": True})
    assert log.see({"key2": False}, 1.0) == []
    assert log.see({"key2": True}) == []
    assert log.see({"key2": False}) != []
    assert log.see({"key2": True}, 1.0) == []
    assert log.see({"key2": False}, 60.0) == []


def test_who_never_answered_is_named_once_and_so_is_who_left() -> None:
    log = Log()
    assert log.see({"key1": None, "key2": False}, 60) == ["peer web2 does not answer"]
    assert log.see({"key1": True, "key2": True}) == ["peer web2 answers after 80 s"]
    assert log.see({"key1": False, "key2": True}, 60)
    assert log.see({"key2": True}) == [], "it left the zone"


def test_an_address_that_went_to_another_node_is_named() -> None:
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
