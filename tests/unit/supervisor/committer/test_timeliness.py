# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that come too late or too early, by Redis's clock."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jaywalk_supervisor.committer.timeliness import FUTURE_SECONDS, untimely
from tests.fleet.page import Page
from tests.supervisor_support import join

NOW = 1_700_000_000.0
PAGE = Page(Path(__file__).parents[4] / "docs" / "troubleshooting.md")


@pytest.mark.parametrize(
    ("expires", "ahead", "code"),
    [
        (0.0, 0.0, ""),
        (0.0, -1e6, ""),
        (NOW + 0.01, 0.0, ""),
        (NOW - 0.01, 0.0, "expired"),
        (NOW - 1e6, 0.0, "expired"),
        (0.0, FUTURE_SECONDS - 1, ""),
        (0.0, FUTURE_SECONDS + 1, "future"),
    ],
)
def test_a_request_is_refused_whose_sender_gave_up_or_is_a_day_ahead(
    expires: float, ahead: float, code: str
) -> None:
    request = replace(join("zone-blue", 1), expires=int(expires * 1000), seq=int((NOW + ahead) * 1e6))
    refusal = untimely(request, NOW)
    assert (refusal.code if refusal else "") == code


def test_a_request_from_the_future_is_refused_as_the_troubleshooting_page_says() -> None:
    refusal = untimely(replace(join("zone-blue", 1), seq=int((NOW + 2 * FUTURE_SECONDS) * 1e6)), NOW)
    assert refusal is not None
    assert PAGE.missing("the clock is wrong", f"jaywalk: {refusal.error}") == []
