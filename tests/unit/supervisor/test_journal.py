# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import logging

import pytest

from jaywalk.requests import Reply
from jaywalk_supervisor.journal import MOST_LINES, Told, tell
from tests.unit.supervisor.support import join

GRANTED = Reply(ok=True, name="n", addresses=("10.20.0.1",), changed=True)
REFUSED = Reply.refused("exhausted", "no address left")


def told(granted: int, refused: int) -> list[Told]:
    requests = [join("zone-blue", number) for number in range(granted + refused)]
    return list(zip(requests, [GRANTED] * granted + [REFUSED] * refused, strict=True))


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def test_each_request_of_a_small_commit_has_its_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    requests = told(2, 1)
    tell("zone-blue", requests)
    assert lines(caplog, logging.INFO) == [
        f"zone zone-blue: join of {request.key}: n 10.20.0.1" for request, _ in requests[:2]
    ]
    refused = f"zone zone-blue: refused join of {requests[2][0].key}: no address left"
    assert lines(caplog, logging.WARNING) == [refused]


def test_a_storm_is_one_line_that_counts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tell("zone-blue", told(MOST_LINES, 3))
    summary = f"zone zone-blue: {MOST_LINES + 3} requests at once: {MOST_LINES} join, 3 exhausted"
    assert [record.getMessage() for record in caplog.records] == [summary]
    assert lines(caplog, logging.WARNING) == [summary]


def test_debug_has_each_request_of_a_storm_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    tell("zone-blue", told(MOST_LINES, 1))
    assert len(lines(caplog, logging.DEBUG)) == MOST_LINES + 1
