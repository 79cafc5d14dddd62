# SPDX-License-Identifier: GPL-3.0-or-later
"""Lock keys are Ed25519 in base64; the private half is in no text but the operator's file."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaywalk.core.errors import InvalidValue
from jaywalk.trust.lock_keys import LockKey, is_signed_by
from jaywalk.trust.statements import NodeStatement, Signed
from tests.strategies import key

STATEMENT = NodeStatement("zone-blue", key(1), "web1")
# RFC 8032, section 7.1, test 1.
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")


def test_a_key_is_that_of_the_standard() -> None:
    assert (
        LockKey.parse(base64.b64encode(SEED).decode(), "the file").public == base64.b64encode(PUBLIC).decode()
    )


def test_a_key_comes_back_from_its_text_and_signs_the_same() -> None:
    made = LockKey.generate()
    again = LockKey.parse(made.private_text() + "\n", "the file")
    assert again.public == made.public
    assert again.sign(STATEMENT) == made.sign(STATEMENT)


def test_no_text_of_a_key_but_its_own_holds_the_private_half() -> None:
    made = LockKey.generate()
    assert made.private_text() not in repr(made) + str(made)
    text = made.private_text()[:-2]
    with pytest.raises(InvalidValue) as refused:
        LockKey.parse(text, "lock.key")
    assert text not in str(refused.value)
    assert "lock.key" in str(refused.value)


@given(st.integers(0, 500), st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128]))
def test_a_flipped_bit_of_text_or_signature_breaks_the_signature(position: int, bit: int) -> None:
    made = LockKey.parse(base64.b64encode(SEED).decode(), "the file")
    signed = made.sign(STATEMENT)
    raw = bytearray(base64.b64decode(signed.signature))
    raw[position % len(raw)] ^= bit
    assert not is_signed_by(made.public, Signed(signed.statement, base64.b64encode(bytes(raw)).decode()))
    text = bytearray(signed.statement.encode())
    text[position % len(text)] ^= bit
    assert not is_signed_by(made.public, Signed(text.decode("latin-1"), signed.signature))
    assert is_signed_by(made.public, signed)


def test_another_key_or_a_text_that_is_no_key_signed_nothing() -> None:
    signed = LockKey.generate().sign(STATEMENT)
    assert not is_signed_by(LockKey.generate().public, signed)
    assert not is_signed_by(key(3), signed)
    assert not is_signed_by("no key", signed)
