# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaywalk.controller.reply_meter import Bounds, BoundsExceeded, ReplyMeter

AMPLE = Bounds(1 << 20, 10_000)
values = st.recursive(
    st.none() | st.integers(-(2**40), 2**40) | st.binary(max_size=60),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=20,
)


def encoded(value: Any) -> bytes:
    """A value as Redis sends it."""
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, bytes):
        return b"$%d\r\n%s\r\n" % (len(value), value)
    return b"*%d\r\n" % len(value) + b"".join(map(encoded, value))


def elements(value: Any) -> int:
    return len(value) + sum(map(elements, value)) if isinstance(value, list) else 0


def taken(meter: ReplyMeter, data: bytes, cuts: list[int]) -> None:
    ends = sorted({min(each, len(data)) for each in cuts} | {len(data)})
    for begin, end in zip([0, *ends], ends, strict=False):
        meter.take(data[begin:end])


@given(values, st.lists(st.integers(0, 400)), values)
def test_a_reply_within_the_bounds_passes_however_it_is_cut(value: Any, cuts: list[int], after: Any) -> None:
    wire = encoded(value)
    exact = ReplyMeter(Bounds(max(len(wire), len(encoded(after))), max(elements(value), elements(after))))
    taken(exact, wire, cuts)
    exact.begin()
    taken(exact, encoded(after), [])


@given(values.filter(elements), st.lists(st.integers(0, 400)))
def test_a_reply_with_one_element_too_many_is_refused_however_it_is_cut(value: Any, cuts: list[int]) -> None:
    meter = ReplyMeter(Bounds(1 << 20, elements(value) - 1))
    with pytest.raises(BoundsExceeded, match="elements"):
        taken(meter, encoded(value), cuts)


@given(values, st.lists(st.integers(0, 400)))
def test_a_reply_with_one_byte_too_many_is_refused_however_it_is_cut(value: Any, cuts: list[int]) -> None:
    meter = ReplyMeter(Bounds(len(encoded(value)) - 1, 10_000))
    with pytest.raises(BoundsExceeded, match="bytes"):
        taken(meter, encoded(value), cuts)


def test_what_a_string_holds_is_no_header() -> None:
    taken(ReplyMeter(AMPLE), encoded([b"\r\n*999999999\r\n$9999999999\r\n", b"x"]), [9, 15])


@pytest.mark.parametrize(
    "reply",
    [
        b"*1000000000\r\n",
        b"$9999999999\r\n",
        b"%6000\r\n",
        b"~1000000000\r\n",
        b"=9999999999\r\n",
        b"*2\r\n*9999\r\n",
        b"*1\r\n" * 10_001,
        b"+" + b"x" * 100_000,
        b"$3\r\nabc\r\n*1000000000\r\n",
    ],
)
def test_a_header_that_announces_too_much_is_refused_at_once(reply: bytes) -> None:
    for step in (3, len(reply)):
        with pytest.raises(BoundsExceeded):
            taken(ReplyMeter(AMPLE), reply, list(range(0, len(reply), step)))


@given(st.binary())
def test_bytes_that_are_no_reply_harm_nothing(data: bytes) -> None:
    with suppress(BoundsExceeded):
        ReplyMeter(AMPLE).take(data)


ROOMY = Bounds(1 << 20, 1_000_000)
"""As of a node: short pieces are read only where more of their reply comes."""


@given(st.lists(values, min_size=1, max_size=4), st.lists(st.integers(0, 400)))
def test_after_short_replies_a_header_that_announces_too_much_is_refused(
    before: list[Any], cuts: list[int]
) -> None:
    meter = ReplyMeter(ROOMY)
    for each in before:
        taken(meter, encoded(each), cuts)
        meter.begin()
    with pytest.raises(BoundsExceeded, match="elements"):
        taken(meter, b"*2\r\n*1000000\r\n", cuts)


@given(st.lists(values, min_size=1, max_size=4), st.lists(st.integers(0, 400)))
def test_short_replies_that_come_together_are_followed_to_where_the_last_piece_ends(
    before: list[Any], cuts: list[int]
) -> None:
    """The second reply of a pipeline is begun with a part of it taken already."""
    meter = ReplyMeter(ROOMY)
    data = encoded(b"\r\n*999999999\r\n" * 3)
    for cut in (1, 5, 7, len(data) - 1):
        meter.take(b"".join(map(encoded, before)) + data[:cut])
        meter.begin()
        taken(meter, data[cut:], cuts)
        meter.begin()
