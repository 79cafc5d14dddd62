# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that come too late or too early, by Redis's clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jaywalk_supervisor.timeliness import FUTURE_SECONDS, untimely
from tests.unit.supervisor.support import join

NOW = 1_700_000_000.0


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
