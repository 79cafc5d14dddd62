# SPDX-License-Identifier: GPL-3.0-or-later
"""The API's own document against the API: each operation with valid and with invalid values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from jaywalk.core.key_format import url_form
from jaywalk.zone.models import Zone
from jaywalk.zone.options import OPTION_BY_NAME
from jaywalk_supervisor.admin import tokens
from jaywalk_supervisor.api import app as api
from jaywalk_supervisor.api.app import create_app
from jaywalk_supervisor.api.metrics import Metrics, add_metrics
from jaywalk_supervisor.api.replica import Replica
from jaywalk_supervisor.store.store import Store
from tests.redis_server import RedisServer
from tests.supervisor_support import BLUE, RED, client_of, committing, join, key_of, serving, well

DOCUMENT = Path(api.__file__).with_name("openapi.json")
NEGATIVE = schemathesis.GenerationMode.NEGATIVE
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    negative_data_rejection,
]


schemathesis.openapi.format(
    "prefix", st.builds("10.{}.0.0/{}".format, st.integers(0, 255), st.integers(16, 30))
)
schemathesis.openapi.format("address", st.builds("10.20.0.{}".format, st.integers(0, 255)))


class Served(NamedTuple):
    app: Flask
    port: int
    headers: dict[str, str]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """The API behind its HTTP server, with three zones, a peer in two of them, and an admin's headers."""
    with RedisServer() as server:
        store, replica = Store.open(server.address, "test"), Replica(server.address)
        for zone in (BLUE, RED, Zone("zone-doomed", ("10.50.0.0/24",))):
            store.create(zone)
        text = tokens.add(store, "its-admin", "admin")
        app = create_app(replica, well)
        with committing(server.address) as committer, serving(app) as port:
            add_metrics(app, Metrics(replica, lambda: committer.health))
            for number, zone in enumerate((BLUE, RED)):
                assert client_of(store, zone.name).ask(join(zone.name, number), 20).ok
            yield Served(app, port, {"Authorization": f"Bearer {text}"})
        replica.close()
        store.close()


@pytest.fixture(scope="module")
def document(served: Served) -> Any:
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{served.port}/openapi.json")


OPERATIONS = [
    (path, method)
    for path, item in json.loads(DOCUMENT.read_text())["paths"].items()
    for method in item
    if method != "parameters"
]


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_the_api_conforms_to_its_document(document: Any, served: Served, path: str, method: str) -> None:
    """Valid values name a zone and a peer that exist, so that each operation does its work."""
    operation = document[path][method]
    statuses = set()
    home = {"zone": "zone-doomed" if (path, method) == ("/zones/{zone}", "delete") else "zone-blue"}
    home |= {"key": url_form(key_of(0)), "id": "0f1e2d3c"}

    def at_home(case: Any) -> Any:
        case.path_parameters.update({name: home[name] for name in case.path_parameters})
        if isinstance(case.body, dict):
            case.body.pop("exclude", None)  # seldom lies in the pools
            case.body.pop("agent_password", None)  # is seldom one line of text
        return case

    @settings(max_examples=25, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy().map(at_home) | operation.as_strategy(NEGATIVE))
    def holds(case: Any) -> None:
        statuses.add(case.call_and_validate(headers=served.headers, checks=CHECKS).status_code)

    holds()
    assert 200 in statuses


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_without_a_token_the_api_only_reads(document: Any, path: str, method: str) -> None:
    """Whatever the values are: nothing is written, no answer contradicts the document, and nothing fails."""
    operation = document[path][method]
    checks = [check for check in CHECKS if check is not negative_data_rejection]

    @settings(max_examples=15, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy() | operation.as_strategy(NEGATIVE))
    def holds(case: Any) -> None:
        status = case.call_and_validate(checks=checks).status_code
        assert (status == 401) == ({} not in operation.definition.raw["security"])

    holds()


def test_the_document_lists_the_routes_and_options(served: Served) -> None:
    app = served.app
    document = app.test_client().get("/openapi.json").get_json()
    told = {(path, method.upper()) for path, method in OPERATIONS}
    names = {"<key:text>": "{key}", "<name>": "{zone}", "<zone>": "{zone}", "<token_id>": "{id}"}
    there = {
        (re.sub("<.*?>", lambda found: names[found[0]], rule.rule), method)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert told == there
    schemas = document["components"]["schemas"]
    assert set(schemas["ZonePatch"]["properties"]) == {*OPTION_BY_NAME, "agent_password"}
    assert set(schemas["NewZone"]["properties"]) == {"name", *schemas["ZonePatch"]["properties"]}
    assert set(schemas["Policy"]["properties"]) == set(document_policy(app))


def document_policy(app: Flask) -> dict[str, Any]:
    """The policy of a zone as the API answers it."""
    policy: dict[str, Any] = app.test_client().get("/zones/zone-blue").get_json()["policy"]
    return policy
