# SPDX-License-Identifier: GPL-3.0-or-later
"""The secret of two keys: equal on both sides, different for each purpose, and never shown."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from jaywalk.core.errors import InvalidValue, MissingTool
from jaywalk.trust import secrets
from jaywalk.trust.secrets import KeyPair, NodeSecret, key_id

# RFC 7748, section 6.1: Alice's and Bob's private and public keys, and their shared secret.
NODE_PRIVATE_HEX = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"
NODE_PUBLIC_HEX = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
SUPERVISOR_PRIVATE_HEX = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
SUPERVISOR_PUBLIC_HEX = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
SHARED_HEX = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"


def text(hexadecimal: str) -> str:
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


def hkdf(shared: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256, without salt, for one block."""
    extracted = hmac.digest(bytes(32), shared, hashlib.sha256)
    return hmac.digest(extracted, info + b"\x01", hashlib.sha256)


NODE_PRIVATE = text(NODE_PRIVATE_HEX)


@pytest.fixture(name="secret")
def _secret() -> NodeSecret:
    return NodeSecret.agree(NODE_PRIVATE, text(SUPERVISOR_PUBLIC_HEX))


def test_the_keys_are_those_of_rfc_7748() -> None:
    assert KeyPair(NODE_PRIVATE).public == text(NODE_PUBLIC_HEX)
    assert KeyPair(text(SUPERVISOR_PRIVATE_HEX)).public == text(SUPERVISOR_PUBLIC_HEX)


def test_both_sides_derive_the_keys_that_the_standards_give(secret: NodeSecret) -> None:
    other = NodeSecret.agree(text(SUPERVISOR_PRIVATE_HEX), text(NODE_PUBLIC_HEX))
    shared = bytes.fromhex(SHARED_HEX)
    for each in (secret, other):
        assert each.request_key == hkdf(shared, b"jaywalk v1 request mac")
        assert each.answer_key == hkdf(shared, b"jaywalk v1 answer mac")
        password = hkdf(shared, b"jaywalk v1 redis password\0zone-blue")
        assert each.redis_password("zone-blue") == base64.urlsafe_b64encode(password).decode()


def test_each_purpose_and_each_zone_has_a_key_of_its_own(secret: NodeSecret) -> None:
    keys = {
        secret.request_key,
        secret.answer_key,
        *(base64.urlsafe_b64decode(secret.redis_password(zone)) for zone in ("zone-blue", "zone-red")),
    }
    assert len(keys) == 4


def test_a_sealed_text_opens_on_the_other_side_alone(secret: NodeSecret) -> None:
    other = NodeSecret.agree(text(SUPERVISOR_PRIVATE_HEX), text(NODE_PUBLIC_HEX))
    stranger = NodeSecret.agree(KeyPair.generate()[1], text(NODE_PUBLIC_HEX))
    sealed = secret.seal(b"the text", b"zone-blue")
    assert other.open(sealed, b"zone-blue") == b"the text"
    assert secret.seal(b"the text", b"zone-blue") != sealed, "each text has a nonce of its own"
    for opener, given, associated in (
        (stranger, sealed, b"zone-blue"),
        (other, sealed, b"zone-red"),
        (other, sealed[:-1] + bytes([sealed[-1] ^ 1]), b"zone-blue"),
        (other, b"", b"zone-blue"),
    ):
        with pytest.raises(InvalidValue, match="was changed"):
            opener.open(given, associated)


@pytest.mark.parametrize("low_order", ["01" + "00" * 31, "ec" + "ff" * 30 + "7f", "ed" + "ff" * 30 + "7f"])
def test_a_point_of_low_order_makes_no_secret(low_order: str) -> None:
    with pytest.raises(InvalidValue, match="low order"):
        NodeSecret.agree(NODE_PRIVATE, text(low_order))


def test_a_text_that_is_no_key_is_refused_and_not_shown() -> None:
    with pytest.raises(InvalidValue) as caught:
        KeyPair("not a key but a password")
    assert "password" not in str(caught.value)
    with pytest.raises(InvalidValue, match="no WireGuard public key"):
        NodeSecret.agree(NODE_PRIVATE, "AAAA")


def test_the_id_of_a_key_is_the_beginning_of_its_hash() -> None:
    digest = hashlib.sha256(bytes.fromhex(SUPERVISOR_PUBLIC_HEX)).hexdigest()
    assert key_id(text(SUPERVISOR_PUBLIC_HEX)) == digest[:16] == KeyPair(text(SUPERVISOR_PRIVATE_HEX)).id


def test_a_generated_key_file_gives_the_same_pair_again() -> None:
    pair, private = KeyPair.generate()
    assert KeyPair(private).public == pair.public
    assert KeyPair.generate()[1] != private


def test_no_text_form_shows_a_secret(secret: NodeSecret) -> None:
    pair = KeyPair(NODE_PRIVATE)
    for shown in (repr(secret), str(secret), repr(pair), str(pair)):
        assert NODE_PRIVATE not in shown and SHARED_HEX not in shown


def test_without_the_library_the_error_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "HAS_CRYPTOGRAPHY", False)
    with pytest.raises(MissingTool, match="python3-cryptography"):
        KeyPair(NODE_PRIVATE)
