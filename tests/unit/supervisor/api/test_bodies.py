# SPDX-License-Identifier: GPL-3.0-or-later
"""A body that does not fit its model is one sentence with the field, the problem and what to send."""

from __future__ import annotations

import json

import pytest
from flask import Flask

from jaywalk.core.errors import InvalidValue
from jaywalk_supervisor.api import bodies, openapi
from jaywalk_supervisor.api.bodies import Body, LeaseRequest, NewZone, ZonePatchBody, parse_body

LONG = ["10.20.0.1"] * 9


def parse(model: type[Body], body: object) -> dict[str, object]:
    with Flask(__name__).test_request_context(method="POST", json=body):
        return parse_body(model)


def test_a_body_gives_the_fields_that_it_names() -> None:
    fields = {"name": "zone-a", "cidr": ["10.7.0.0/24"], "forget_after": "never", "quarantine": 0}
    assert parse(NewZone, fields) == fields
    assert parse(ZonePatchBody, {}) == {}
    assert parse(LeaseRequest, {"name": "db1", "rekey": True}) == {"name": "db1", "rekey": True}


@pytest.mark.parametrize(
    ("model", "body", "message"),
    [
        (ZonePatchBody, [1], 'the body is no JSON object: send one like {"name": "..."}'),
        (ZonePatchBody, {"quarantine": True}, "the field quarantine is 'True': give a whole number"),
        (ZonePatchBody, {"quarantine": 1.5}, "the field quarantine is '1.5': give a whole number"),
        (ZonePatchBody, {"quarantine": "60"}, "the field quarantine is '60': give a whole number"),
        (
            ZonePatchBody,
            {"quarantine": -1},
            "the quarantine '-1' is out of range: use 0 to 3153",
        ),
        (ZonePatchBody, {"quarantine": 10**400}, "the quarantine '1"),
        (
            ZonePatchBody,
            {"forget_after": "60"},
            "forget_after is '60': give a whole number or never",
        ),
        (
            ZonePatchBody,
            {"forget_after": "soon"},
            "'soon' is out of range: use 0 to 315360000 seconds, or n",
        ),
        (ZonePatchBody, {"forget_after": -1}, "'-1' is out of range: use 0 to 315360000 seconds, or never"),
        (ZonePatchBody, {"takeover": "maybe"}, "'maybe' is unknown: use one of always, stale, never"),
        (ZonePatchBody, {"description": None}, "the field description is 'None': give a text"),
        (ZonePatchBody, {"cidr": "10.7.0.0/24"}, "the field cidr is '10.7.0.0/24': give a list of texts"),
        (ZonePatchBody, {"cidr": [7]}, "the field cidr holds '7': give a list of texts"),
        (ZonePatchBody, {"cidr": []}, "the field cidr is empty: give all its values, or leave the field out"),
        (ZonePatchBody, {"name": "zone-a"}, "the field 'name' is unknown here: there are cidr, cidr6, "),
        (NewZone, {"cidr": ["10.7.0.0/24"]}, "the field name is missing: give a text"),
        (LeaseRequest, {"request_ip": LONG}, "the field request_ip has 9 values: give at most 8"),
        (LeaseRequest, {"rekey": "yes"}, "the field rekey is 'yes': give true or false"),
    ],
)
def test_a_body_that_does_not_fit_is_refused_with_a_remedy(
    model: type[Body], body: object, message: str
) -> None:
    with pytest.raises(InvalidValue) as refused:
        parse(model, body)
    assert message in str(refused.value)


def test_an_error_does_not_repeat_a_secret() -> None:
    with pytest.raises(InvalidValue) as refused:
        parse(ZonePatchBody, {"agent_password": 1234567890123456})
    assert str(refused.value) == "the field agent_password has another type: give a text"


def test_the_document_resolves_each_reference() -> None:
    document = openapi.document()
    text = json.dumps(document)
    references = {part.split('"')[0] for part in text.split('"$ref": "#/')[1:]}
    assert {"components/schemas/ZonePatch", "components/schemas/Policy"} <= references
    for reference in references:
        found = document
        for part in reference.split("/"):
            found = found[part]
    assert document["components"]["schemas"]["NewZone"] == bodies.schemas()["NewZone"]
