# SPDX-License-Identifier: GPL-3.0-or-later
"""The test vector in the documentation is what both sides compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jaywalk.trust import envelope
from jaywalk.trust.envelope import Question
from jaywalk.trust.secrets import KeyPair

PAGE = Path(__file__).parents[4] / "docs" / "proof.md"


@pytest.fixture(name="vector")
def _vector() -> dict[str, Any]:
    block = PAGE.read_text(encoding="utf-8").partition("```json\n")[2].partition("```")[0]
    found: dict[str, Any] = json.loads(block)
    return found


def test_both_sides_have_the_documented_keys(vector: dict[str, Any]) -> None:
    node, supervisor = KeyPair(vector["node_private_key"]), KeyPair(vector["supervisor_private_key"])
    assert (node.public, supervisor.public) == (vector["node_public_key"], vector["supervisor_public_key"])
    assert supervisor.id == vector["key_id"]
    for secret in (node.agree(supervisor.public), supervisor.agree(node.public)):
        assert secret.request_key.hex() == vector["request_key"]
        assert secret.answer_key.hex() == vector["answer_key"]
        assert secret.redis_password(vector["zone"]) == vector["redis_password"]


def test_the_documented_request_is_proven_again_to_the_same_text(vector: dict[str, Any]) -> None:
    secret = KeyPair(vector["node_private_key"]).agree(vector["supervisor_public_key"])
    parts = envelope.split_request(vector["request"])
    assert parts.is_from_holder(secret, vector["zone"])
    made = envelope.prove_request(secret, vector["key_id"], vector["zone"], parts.key, parts.body)
    assert made == vector["request"]


def test_the_documented_answer_answers_the_documented_request(vector: dict[str, Any]) -> None:
    secret = KeyPair(vector["supervisor_private_key"]).agree(vector["node_public_key"])
    asked = json.loads(envelope.split_request(vector["request"]).body)
    question = Question(vector["zone"], asked["key"], asked["op"], asked["seq"], asked["nonce"])
    body = envelope.proven_answer(secret, question, vector["answer"])
    assert body is not None
    assert json.loads(body)["addresses"] == ["10.20.0.1"]
    assert envelope.prove_answer(secret, vector["key_id"], question, body) == vector["answer"]
