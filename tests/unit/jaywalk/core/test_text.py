# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever text others send, nothing of it reaches a terminal, a log or systemd but printable characters."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaywalk.core.errors import CommandFailed, InvalidValue, JaywalkError
from jaywalk.core.text import printable, printable_lines
from jaywalk.service.log_format import OneLine
from jaywalk.service.sd_notify import notify
from jaywalk.zone.models import Lease, Peer, Zone
from jaywalk.zone.record_fields import FIELDS
from jaywalk.zone.requests import AGENT_OPS, Reply, Request
from jaywalk_agent.dataplane.interface_record import InterfaceRecord
from jaywalk_agent.doctor import run as doctor
from jaywalk_agent.doctor.context import BAD, Finding
from jaywalk_agent.host.runtime_state import Report
from jaywalk_agent.paths import path_status
from tests.strategies import key

# Clears a screen, sets a title, begins a line, moves back, reverses the direction, is a C1 control.
EXAMPLES = (
    "\x1b[2J",
    "\x1b]0;title\x07",
    "a\nb",
    "a\r",
    "\x08",
    "\u202egpj.exe",
    "\x9b31m",
    "\u2028",
    "\ud800",
)
hostile = st.one_of(st.sampled_from(EXAMPLES), st.text(min_size=1, max_size=30))
values = st.one_of(hostile, st.lists(hostile, max_size=2), st.dictionaries(hostile, hostile, max_size=2))
ZONE = Zone("zone-blue", ("10.20.0.0/20",))
RECORD = {"n": "node1", "a": ["10.20.0.1"], "s": 1, "r": 1}


def texts_of(value: Any) -> Iterator[str]:
    """Yield all texts in a parsed value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from texts_of([*value, *value.values()])
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from texts_of(part)
    elif hasattr(value, "__dataclass_fields__"):
        yield from texts_of([getattr(value, name) for name in value.__dataclass_fields__])


def check(parse: Any) -> None:
    """Whatever the parser returns, or says against it, is printable."""
    try:
        found = list(texts_of(parse()))
    except JaywalkError as error:
        found = [str(error), error.problem, error.remedy]
    assert [text for text in found if not text.isprintable()] == []


@given(hostile)
def test_a_text_is_printable_and_a_printable_text_is_as_it_was(text: str) -> None:
    assert printable(text).isprintable()
    assert len(printable(text)) == len(text)
    assert printable(printable(text)) == printable(text)
    assert printable_lines(text).count("\n") == text.count("\n")


@given(hostile)
def test_every_error_is_printable(text: str) -> None:
    for error in (JaywalkError(text, text), InvalidValue(text), CommandFailed([text], 1, text)):
        assert str(error).isprintable()


@given(st.sampled_from([field.letter for field in FIELDS]), values)
def test_a_record_of_the_zone_is_printable_or_refused(letter: str, value: Any) -> None:
    check(lambda: Peer.from_wire(key(1), {**RECORD, letter: value}, ZONE))
    check(lambda: Lease.from_wire(key(1), {**RECORD, letter: value}))
    check(lambda: Peer.from_wire(value, RECORD, ZONE))


@given(hostile, hostile)
def test_a_zone_is_printable_or_refused(name: str, text: str) -> None:
    check(lambda: Zone.from_wire(name, {"pools": '["10.20.0.0/20"]', "description": text}))
    check(lambda: Zone.from_wire("zone-blue", {"pools": json.dumps([text]), "policy": text}))


@given(
    st.sampled_from(["name", "former_name", "endpoint", "nonce", "instance", "op", "key", "local"]), values
)
def test_a_request_is_printable_or_refused(field: str, value: Any) -> None:
    request = {"v": 1, "op": "join", "zone": "zone-blue", "key": key(1), "seq": 1, "nonce": "0" * 32}
    check(lambda: Request.from_wire(json.dumps({**request, field: value}), "zone-blue", AGENT_OPS))


@given(st.sampled_from(["error", "code", "name", "state", "notes", "addresses"]), values, st.booleans())
def test_a_reply_is_printable_or_refused(field: str, value: Any, ok: bool) -> None:
    check(lambda: Reply.from_wire(json.dumps({"ok": ok, field: value})))


@given(text=hostile)
def test_a_line_of_the_log_is_one_printable_line_also_in_a_traceback(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("a", logging.ERROR, "a", 1, "%s", (text,), info)
    first, *others = OneLine(journal=True).format(record).split("\n")
    assert first == f"<3>{printable(text)}"
    assert all(line.startswith("<3>") and line.isprintable() for line in others)


def test_systemd_gets_printable_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        for text in EXAMPLES:
            assert notify("READY=1", f"STATUS={text}")
            lines = systemd.recv(4096).decode().split("\n")
            assert lines == ["READY=1", "STATUS=" + printable(text.replace("\n", " "))]


@pytest.mark.parametrize("text", EXAMPLES)
def test_what_the_agents_user_wrote_reaches_roots_terminal_as_printable_text(
    tmp_path: Path, text: str
) -> None:
    file = tmp_path / "file"
    file.write_text(json.dumps({"pid": 1, "trouble": text, "since": 0.0}))
    assert printable(text) == getattr(Report.read(file), "trouble", None)
    file.write_text(json.dumps({key(1): {"path": text, "relay": text, "endpoint": text, "keepalive": 0}}))
    check(lambda: path_status.load(file))
    file.write_text(json.dumps({"name": text, "public_key": key(1)}))
    assert InterfaceRecord.read(file) is None
    assert doctor.as_text([Finding(BAD, "agent", text)]).isprintable()
