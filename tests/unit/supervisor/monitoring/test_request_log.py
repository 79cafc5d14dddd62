# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import logging
import time

import pytest

from jaywalk.service.repeat_filter import RepeatFilter
from jaywalk.zone.requests import Reply
from jaywalk_supervisor.monitoring import request_log
from jaywalk_supervisor.monitoring.request_log import MAX_LINES, LoggedRequest, log_commit
from tests.supervisor_support import join

GRANTED = Reply(ok=True, name="n", addresses=("10.20.0.1",), changed=True)
REFUSED = Reply.refused("exhausted", "no address left")


def logged(granted: int, refused: int) -> list[LoggedRequest]:
    requests = [join("zone-blue", number) for number in range(granted + refused)]
    return list(zip(requests, [GRANTED] * granted + [REFUSED] * refused, strict=True))


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def test_each_request_of_a_small_commit_has_its_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    requests = logged(2, 1)
    log_commit("zone-blue", requests, RepeatFilter())
    assert lines(caplog, logging.INFO) == [
        f"zone zone-blue: join of {request.key}: n 10.20.0.1" for request, _ in requests[:2]
    ]
    refused = f"zone zone-blue: refused join of {requests[2][0].key}: no address left"
    assert lines(caplog, logging.WARNING) == [refused]


def test_a_storm_is_one_line_that_counts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log_commit("zone-blue", logged(MAX_LINES, 3), RepeatFilter())
    summary = f"zone zone-blue: {MAX_LINES + 3} requests at once: {MAX_LINES} join, 3 exhausted"
    assert [record.getMessage() for record in caplog.records] == [summary]
    assert lines(caplog, logging.WARNING) == [summary]


def test_debug_has_each_request_of_a_storm_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    log_commit("zone-blue", logged(MAX_LINES, 1), RepeatFilter())
    assert len(lines(caplog, logging.DEBUG)) == MAX_LINES + 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_refusal_is_logged_once_an_hour_and_when_it_is_another(
    caplog: pytest.LogCaptureFixture, clock: list[float]
) -> None:
    repeats = RepeatFilter()

    def said(code: str, error: str, ip: str = "10.20.0.9") -> list[str]:
        caplog.clear()
        reply = Reply.refused(code, error) if code else GRANTED
        log_commit("zone-blue", [(join("zone-blue", 1, request_ip=[ip]), reply)], repeats)
        return [message.partition("=: ")[2] for message in lines(caplog, logging.WARNING)]

    assert said("exhausted", "5 of 5 held") == ["5 of 5 held"]
    for _ in range(59):
        clock[0] += 60
        assert said("exhausted", f"5 of 5 held at {clock[0]}") == []
    clock[0] += 60
    assert said("exhausted", "full") == ["full (and 59 times since this was last logged)"]
    assert said("address-taken", "node2 has it") == ["node2 has it"]
    assert said("address-taken", "node3 has it", "10.20.0.8") == ["node3 has it"]
    assert said("", "") == []
    assert said("address-taken", "node3 has it", "10.20.0.8") == ["node3 has it"], "it had what it wanted"


def test_what_does_not_parse_is_logged_once_an_hour(
    caplog: pytest.LogCaptureFixture, clock: list[float]
) -> None:
    repeats = RepeatFilter()
    for reason in ("no JSON", "no JSON", "too large", "no JSON"):
        request_log.log_unparseable_request("zone-blue", reason, repeats)
    assert len(lines(caplog, logging.WARNING)) == 2
    clock[0] += 3601
    request_log.log_unparseable_request("zone-blue", "no JSON", repeats)
    assert lines(caplog, logging.WARNING)[-1].endswith("no JSON (and 2 more since this was last logged)")


def test_texts_that_all_differ_and_do_not_parse_make_a_bounded_number_of_lines(
    caplog: pytest.LogCaptureFixture, clock: list[float]
) -> None:
    repeats = RepeatFilter()
    for number in range(5000):
        request_log.log_unparseable_request("zone-blue", f"the operation '{number}' is unknown here", repeats)
    request_log.log_unparseable_request("zone-red", "no JSON", repeats)
    assert len(lines(caplog, logging.WARNING)) == request_log.MAX_UNPARSEABLE_LINES + 1
    clock[0] += 3601
    request_log.log_unparseable_request("zone-blue", "no JSON", repeats)
    assert " more since this was last logged)" in lines(caplog, logging.WARNING)[-1]
