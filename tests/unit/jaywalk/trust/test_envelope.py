# SPDX-License-Identifier: GPL-3.0-or-later
"""Proofs of requests and answers: they hold for the exact text they were made for, and for nothing else."""

from __future__ import annotations

import pytest

from jaywalk.core.errors import InvalidValue
from jaywalk.trust import envelope
from jaywalk.trust.envelope import Question
from jaywalk.trust.secrets import KeyPair

SUPERVISOR, NODE, OTHER = (KeyPair.generate()[0] for _each in range(3))
BODY = '{"v":1,"op":"join","zone":"zone-blue","key":"' + NODE.public + '","seq":7,"nonce":"00"}'
ZONE = "zone-blue"
QUESTION = Question(ZONE, NODE.public, "join", 7, "0" * 32)
ANSWER = '{"ok":true}'


def request(body: str = BODY) -> str:
    return envelope.prove_request(NODE.agree(SUPERVISOR.public), SUPERVISOR.id, ZONE, NODE.public, body)


def accepts(text: str, zone: str = ZONE) -> bool:
    """What a supervisor does with an entry of an inbox."""
    parts = envelope.split_request(text)
    return parts.is_from_holder(SUPERVISOR.agree(parts.key), zone)


def answer(question: Question = QUESTION, kid: str = SUPERVISOR.id) -> str:
    return envelope.prove_answer(SUPERVISOR.agree(NODE.public), kid, question, ANSWER)


def read(text: str, question: Question = QUESTION) -> str | None:
    """What a node does with an entry of a reply stream."""
    return envelope.proven_answer(NODE.agree(SUPERVISOR.public), question, text)


def test_a_supervisor_accepts_the_request_of_the_holder_of_the_key() -> None:
    text = request()
    assert envelope.is_proven(text) and not envelope.is_proven(BODY)
    parts = envelope.split_request(text)
    assert (parts.kid, parts.key, parts.body) == (SUPERVISOR.id, NODE.public, BODY)
    assert accepts(text)


def test_any_changed_byte_of_a_request_is_noticed() -> None:
    text = request()
    for at in range(len(text)):
        changed = text[:at] + ("x" if text[at] != "x" else "y") + text[at + 1 :]
        try:
            accepted = accepts(changed)
        except InvalidValue:
            accepted = False
        assert not accepted, f"byte {at} was changed"


def test_a_request_says_nothing_to_another_zone() -> None:
    assert not accepts(request(), "zone-red")


def test_nobody_proves_a_request_in_the_key_of_another() -> None:
    own = OTHER.agree(SUPERVISOR.public)
    forged = envelope.prove_request(own, SUPERVISOR.id, ZONE, NODE.public, BODY)
    assert not accepts(forged)


def test_a_mac_of_another_purpose_proves_nothing() -> None:
    mac = answer().split()[2]
    header = f"jw2 {SUPERVISOR.id} {NODE.public} {mac}\n"
    assert not accepts(header + ANSWER)


def test_a_body_of_several_lines_is_one_body() -> None:
    assert envelope.split_request(request(BODY + "\n\n")).body == BODY + "\n\n"
    assert accepts(request(BODY + "\n\n"))


@pytest.mark.parametrize(
    "text",
    [
        "jw2 ",
        "jw2 \n{}",
        "jw2 0123 key mac\n{}",
        request().replace("\n", " ", 1),
        request().replace(NODE.public, "A" * 43 + "="),
        request().replace("jw2 ", "jw2  "),
        request().replace("jw2 ", "jw3 "),
    ],
)
def test_a_malformed_first_line_is_an_error(text: str) -> None:
    with pytest.raises(InvalidValue):
        envelope.split_request(text)


def test_a_node_believes_the_answer_to_its_own_request() -> None:
    assert read(answer()) == ANSWER
    assert envelope.answer_kid(answer()) == SUPERVISOR.id
    assert envelope.answer_kid(ANSWER) == ""


def test_any_changed_byte_of_an_answer_is_noticed() -> None:
    text = answer()
    for at in range(len(text)):
        changed = text[:at] + ("x" if text[at] != "x" else "y") + text[at + 1 :]
        assert read(changed) is None, f"byte {at} was changed"


@pytest.mark.parametrize(
    "changed",
    [
        QUESTION._replace(zone="zone-red"),
        QUESTION._replace(key=OTHER.public),
        QUESTION._replace(op="leave"),
        QUESTION._replace(seq=8),
        QUESTION._replace(nonce="1" * 32),
    ],
    ids=["zone", "key", "op", "seq", "nonce"],
)
def test_an_answer_to_another_question_is_none(changed: Question) -> None:
    assert read(answer(changed)) is None


def test_an_answer_without_a_proof_or_of_another_key_is_none() -> None:
    assert read(ANSWER) is None
    forged = envelope.prove_answer(OTHER.agree(NODE.public), SUPERVISOR.id, QUESTION, ANSWER)
    assert read(forged) is None


def test_text_that_is_no_unicode_is_refused_and_harms_nobody() -> None:
    assert not accepts(request() + "\udcff")
