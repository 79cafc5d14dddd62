# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import logging

import pytest

from jaywalk.core.errors import InvalidValue
from jaywalk.service.log_format import OneLine, set_up


def line(message: str, *, journal: bool, error: BaseException | None = None) -> str:
    info = (type(error), error, error.__traceback__) if error else None
    return OneLine(journal).format(logging.LogRecord("a", logging.ERROR, "a", 1, message, (), info))


def test_a_message_is_one_line_with_its_priority() -> None:
    assert line("key 'x\n<3>forged\x1b[2J'", journal=True) == "<3>key 'x?<3>forged?[2J'"
    assert line("a\nb", journal=False).endswith("ERROR   a?b")


def test_every_line_of_a_traceback_has_the_priority() -> None:
    try:
        raise ValueError("inside")
    except ValueError as error:
        lines = line("it failed", journal=True, error=error).splitlines()
    assert len(lines) > 3
    assert all(each.startswith("<3>") for each in lines)


def test_unknown_level() -> None:
    with pytest.raises(InvalidValue, match="'loud' is unknown: use one of debug, info, warning, error"):
        set_up("loud")
