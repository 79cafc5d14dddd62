# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of histories find each planted wrong reply and change."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from .history import History, ReceivedReply, SentRequest
from .log_reader import Entry, Reading
from .log_rules import LogRules, ZoneSettings, settings_faults, waiting_key
from .replies import ReplyChecker, checkable

A, B, C = ("A" * 43 + "=", "B" * 43 + "=", "C" * 43 + "=")
ONE, TWO = "10.30.0.1", "10.30.0.2"
# A zone with two addresses, which two nodes fill.
SMALLEST = ZoneSettings(("10.30.0.0/30",), quarantine=10.0, stale_after=6.0)


@dataclass
class Story:
    """A zone's log with its requests and replies, one second apart, or ``after`` seconds."""

    settings: ZoneSettings = SMALLEST
    history: History = field(default_factory=History)
    entries: list[Entry] = field(default_factory=list)
    now: float = 100.0

    def asked(self, op: str, key: str, seq: int = 0, **fields: Any) -> SentRequest:
        self.now += fields.pop("after", 1.0)
        nonce = f"{len(self.history.asked)}"
        asked = SentRequest(op, key, seq=seq, nonce=nonce, at=self.now, **fields)
        self.history.asked[nonce] = asked
        return asked

    def event(self, *changes: list[Any]) -> None:
        before, self.now = self.now, self.now + 1
        position = f"7-{len(self.entries) + 1}"
        self.entries.append(Entry(position, {"o": json.dumps(changes)}, before, self.now))

    def answered(self, asked: SentRequest, **fields: Any) -> ReceivedReply:
        self.now += 1
        answer = ReceivedReply(asked, self.now, self.history.era, **fields)
        self.history.answers.append(answer)
        return answer

    def joined(self, key: str, address: str, seq: int, **asked: Any) -> ReceivedReply:
        """A join as it is to be."""
        request = self.asked("join", key, seq, **asked)
        self.event(["+", key, record(address, seq)])
        return self.answered(request, state="active", addresses=(address,), changed=True)

    def left(self, key: str, seq: int) -> ReceivedReply:
        request = self.asked("leave", key, seq)
        self.event(["-", key, {"t": self.now, "s": seq}])
        return self.answered(request, state="released", changed=True)

    def faults(self) -> list[str]:
        self.now += 1
        reading = Reading(self.history.era, self.entries, through=self.now)
        court = ReplyChecker(reading, self.settings)
        answers = [court.fault_of(each) for each, _ in checkable(self.history.answers, lambda era: reading)]
        return [*LogRules(self.history, self.settings).violations(self.entries), *filter(None, answers)]


def record(address: str, seq: int, **more: Any) -> dict[str, Any]:
    return {"n": "node", "a": [address], "s": seq, "r": 1, **more}


def lease(address: str, seq: int, **more: Any) -> dict[str, Any]:
    return {"n": "node", "a": [address], "s": seq, **more}


def test_a_correct_history_has_no_fault() -> None:
    story = Story()
    story.joined(A, ONE, 1)
    story.joined(B, TWO, 1)
    story.left(A, 2)
    story.joined(A, ONE, 3)
    story.left(B, 2)
    again = story.asked("leave", B, 3)
    story.answered(again, state="released", addresses=(TWO,))
    refused = story.asked("join", C, 1)
    story.answered(refused, ok=False, code="exhausted")
    story.asked("join", C, 2, after=SMALLEST.quarantine)
    story.event(["=", B], ["+", C, record(TWO, 2)])
    order = story.asked("release", A)
    story.event(["-", A, {"t": story.now, "s": 3}], ["=", A])
    story.answered(order, state="absent", changed=True)
    reserve = story.asked("reserve", "", name="host")
    story.event(["=", waiting_key("host"), lease(ONE, 0, n="host", h="host", t=0)])
    story.answered(reserve, state="reserved", addresses=(ONE,), changed=True)
    story.asked("join", B, 5, name="host")
    story.event(["=", waiting_key("host")], ["+", B, record(ONE, 5, n="host", h="host")])
    story.asked("reserve", "", name="other")
    story.event(["=", waiting_key("other"), lease(TWO, 0, n="other", h="other", t=0, **KEPT)])
    story.asked("join", B, 6, name="other")
    claimed = record(TWO, 6, n="other", h="other", **KEPT)
    story.event(["=", waiting_key("other")], ["+", B, claimed])
    story.asked("release", "", name="other")
    story.event(["-", B, {"t": story.now, "s": 6}], ["=", B])
    story.asked("join", B, 7, name="host")
    story.event(["+", B, record(ONE, 7, n="host", h="host")])
    rekey = story.asked("rekey", A, name="host")
    gone = ["-", B, {"t": story.now, "s": 7}]
    story.event(gone, ["=", B], ["=", A, lease(ONE, 0, n="host", h="host", t=0)])
    story.answered(rekey, state="reserved", addresses=(ONE,), changed=True)
    assert story.faults() == []


Plant = Callable[[Story], object]


def _quarantine(story: Story) -> None:
    story.joined(B, TWO, 1)
    story.left(B, 2)
    story.asked("join", C, 1)
    story.event(["=", B], ["+", C, record(TWO, 1)])


def _quarantine_for_who_asks(story: Story) -> None:
    story.joined(B, TWO, 1)
    story.left(B, 2)
    story.asked("join", C, 1, addresses=(TWO,))
    story.event(["=", B, lease("10.30.0.3", 2, t=1.0)], ["+", C, record(TWO, 1)])


def _stale(story: Story) -> None:
    story.settings = replace(story.settings, takeover="stale")
    for second in range(12):
        story.history.reports[A].append((story.now + second, story.now + second + 0.1))
    story.asked("join", B, 1, addresses=(ONE,), after=8.0)
    story.event(["+", A, record(TWO, 1)], ["+", B, record(ONE, 1)])


def _never(story: Story) -> None:
    story.settings = replace(story.settings, takeover="never")
    story.asked("join", B, 1, addresses=(ONE,))
    story.event(["+", A, record(TWO, 1)], ["+", B, record(ONE, 1)])


def _reserved(story: Story) -> None:
    story.asked("reserve", B)
    story.event(["=", B, lease(TWO, 0, t=0)])
    story.asked("join", C, 1, addresses=(TWO,))
    story.event(["=", B, lease("10.30.0.9", 0, t=0)], ["+", C, record(TWO, 1)])


def _no_room(story: Story) -> None:
    story.left(A, 2)
    story.event(["=", A])


def _enough_room(story: Story) -> None:
    story.left(A, 2)
    story.asked("join", B, 1, after=20.0)
    story.event(["=", A], ["+", B, record(ONE, 1)])


def _answered(op: str, **answer: Any) -> Plant:
    return lambda story: story.answered(story.asked(op, A, 2), **answer)


def _event(*changes: list[Any], asked: tuple[str, str, int] | None = None, **fields: Any) -> Plant:
    def plant(story: Story) -> None:
        if asked is not None:
            story.asked(*asked, **fields)
        story.event(*changes)

    return plant


KEPT = {"p": ["172.22.0.0/24"], "k": ["172.22.0.0/24"]}
PLANTED: dict[str, tuple[Plant, str]] = {
    "address in quarantine": (_quarantine, "was given to another one"),
    "requested address in quarantine": (_quarantine_for_who_asks, "although it left"),
    "leave that did nothing": (_answered("leave", state="released", changed=True), "no such change"),
    "leave that was never so": (_answered("leave", state="released", addresses=(ONE,)), "was never so"),
    "release that did nothing": (_answered("release", state="absent", changed=True), "no such change"),
    "release that was never so": (_answered("release", state="absent"), "was never so"),
    "reservation that is none": (_answered("reserve", addresses=(TWO,), changed=True), "no such change"),
    "show of another address": (_answered("show", state="active", addresses=(TWO,)), "was never so"),
    "join that was never committed": (
        _answered("join", state="active", addresses=(ONE,), changed=True),
        "no such change",
    ),
    "join with another address": (_answered("join", state="active", addresses=(TWO,)), "was never so"),
    "refusal without a reason": (_answered("join", ok=False, code="exhausted"), "no reason"),
    "refusal as expired": (_answered("join", ok=False, code="expired"), "no reason"),
    "refusal as too old": (_answered("join", ok=False, code="stale"), "no reason"),
    "refusal with an unknown code": (_answered("join", ok=False, code="internal"), "no reason"),
    "requested address ignored": (
        _event(["+", B, record(TWO, 1)], asked=("join", B, 1), addresses=("10.30.0.3",)),
        "requested",
    ),
    "address that changes at each join": (
        _event(["+", A, record(TWO, 2)], asked=("join", A, 2)),
        "which no node requested",
    ),
    "address that no other node took": (_event(["+", A, record(TWO, 1)]), "which no node requested"),
    "taken over although it reports": (_stale, "its last report was only"),
    "taken over although that is not allowed": (_never, "takeovers are not allowed"),
    "reservation taken": (_reserved, "it is reserved"),
    "member without a request": (_event(["+", B, record(TWO, 1)]), "of no join"),
    "change without a request": (_event(["+", A, record(ONE, 9)]), "of no request"),
    "older request": (_event(["+", A, record(ONE, 0)], asked=("join", A, 0)), "went back"),
    "leave without a request": (_event(["-", A, {"t": 5.0, "s": 2}]), "without a request"),
    "end without a request": (_event(["=", A]), "without a request"),
    "lease without an operator's request": (
        _event(["=", B, lease(TWO, 0, t=0)]),
        "without an operator's request",
    ),
    "prefix that was not announced": (
        _event(["+", A, record(ONE, 2, p=["172.20.0.0/24"])], asked=("join", A, 2)),
        "announced",
    ),
    "prefix that is not there": (
        _event(["+", A, record(ONE, 2)], asked=("join", A, 2), prefixes=("172.20.0.0/24",)),
        "announced",
    ),
    "prefix that was not reserved": (
        _event(["+", A, record(ONE, 1, **KEPT)]),
        "without an operator's request",
    ),
    "lease that makes no room": (_no_room, "no other key got"),
    "room where there is enough": (_enough_room, "although only 1 addresses are held"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(name: str) -> None:
    plant, sentence = PLANTED[name]
    story = Story()
    story.joined(A, ONE, 1)
    plant(story)
    assert sentence in "\n".join(story.faults())


def test_a_reply_after_a_loss_of_data_is_not_checked() -> None:
    story = Story()
    asked = story.asked("join", A, 1)
    with story.history.loses():
        story.answered(asked, state="active", addresses=(ONE,), changed=True)
    story.answered(asked, state="active", addresses=(ONE,), changed=True)
    assert story.faults() == []


def test_silence_is_the_longest_time_without_a_report() -> None:
    history = History()
    history.reports[A] = [(10.0, 10.5), (12.0, 12.5), (17.0, 19.0)]
    assert history.silence(A, 11.0, 13.0) == 1.5
    assert history.silence(A, 10.0, 20.0) == 7.0
    assert history.silence(B, 10.0, 13.0) == 3.0


def test_a_difference_from_the_zone_settings_is_found() -> None:
    settings = ZoneSettings(("10.30.0.0/30",), "never", 3, 6, later=("10.30.0.0/29",), later_quarantine=4)
    policy = {"takeover": "never", "stale_after": 6, "quarantine": 3}
    made = {"pools": '["10.30.0.0/30"]', "policy": json.dumps(policy)}
    later = {"pools": '["10.30.0.0/29"]', "policy": json.dumps({**policy, "quarantine": 4})}
    assert [*settings_faults(made, settings, False), *settings_faults(later, settings, False)] == []
    assert list(settings_faults(later, settings, True)) == []
    assert len(list(settings_faults(made, settings, True))) == 1
    assert len(list(settings_faults({**made, "pools": '["10.20.0.0/20"]'}, settings, False))) == 1
    always = json.dumps({**policy, "takeover": "always"})
    assert list(settings_faults({**made, "policy": always}, settings, False)) == [
        "takeover is always, and was set to never"
    ]


def test_a_lease_may_be_restored_to_its_key() -> None:
    story = Story()
    story.event(["=", A, lease(ONE, 1, t=5.0)])
    put_back = LogRules(story.history, story.settings, {(A, (ONE,))})
    other = LogRules(story.history, story.settings, {(A, (TWO,))})
    assert list(put_back.violations(story.entries)) == []
    assert "without an operator's request" in next(other.violations(story.entries))
