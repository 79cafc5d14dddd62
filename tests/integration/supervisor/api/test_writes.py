# SPDX-License-Identifier: GPL-3.0-or-later
"""Zones, leases and peers changed through the REST API by roles, over a real Redis and committer."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from jaywalk.core.key_format import url_form
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk_supervisor.admin import tokens
from jaywalk_supervisor.api.app import create_app
from jaywalk_supervisor.api.bounded_app import MAX_BODY_BYTES
from jaywalk_supervisor.api.replica import Replica
from jaywalk_supervisor.store.store import Store
from tests.integration.supervisor.api.test_app import PLUS, SLASHES
from tests.redis_server import RedisServer
from tests.supervisor_support import Command, client_of, committing, join, key_of, well

Call = Callable[..., TestResponse]
"""``call(role, METHOD, path, body)``, as the holder of a token."""


@pytest.fixture
def bearer(store: Store) -> dict[str, dict[str, str]]:
    """The headers of a token of each role, and of a tenant, an operator of zone-red only."""
    texts = {role: tokens.add(store, f"its-{role}", role) for role in tokens.ROLES}
    texts["tenant"] = tokens.add(store, "its-tenant", "operator", "zone-red")
    return {role: {"Authorization": f"Bearer {text}"} for role, text in texts.items()}


@pytest.fixture
def call(api: FlaskClient, bearer: dict[str, dict[str, str]]) -> Call:
    def ask(role: str, method: str, path: str, body: object = None) -> TestResponse:
        more: Any = {} if body is None else {"json": body}
        return api.open(path, method=method, headers=bearer[role], **more)

    return ask


def test_a_zone_is_added_changed_and_removed(redis_server: RedisServer, store: Store, call: Call) -> None:
    body = {
        "name": "zone-new",
        "cidr": ["10.40.0.9/24"],
        "description": "New",
        "agent_password": "four words",
    }
    made = call("admin", "POST", "/zones", body)
    assert (made.status_code, made.get_json()["changed"]) == (200, True)
    shown = call("read", "GET", "/zones/zone-new").get_json()
    assert shown == {**made.get_json()["zone"], "seen": [], "unseen": []}
    assert made.get_json()["zone"]["pools"][0]["cidr"] == "10.40.0.0/24"
    assert store.redis.acl_getuser("agent-zone-new") is not None
    assert call("admin", "POST", "/zones", body).get_json()["changed"] is False
    grown = call("admin", "PATCH", "/zones/zone-new", {"cidr": ["10.40.0.0/23"], "quarantine": 60})
    assert grown.get_json()["zone"]["policy"]["quarantine"] == 60
    with committing(redis_server.address, ()):
        assert client_of(store, "zone-new").ask(join("zone-new", 1), 10).ok
    cut = call("admin", "PATCH", "/zones/zone-new", {"cidr": ["10.41.0.0/24"]})
    assert cut.status_code == 409
    assert "10.40.0.1 of node1 (active) would lie outside them" in cut.get_json()["message"]
    refused = call("admin", "DELETE", "/zones/zone-new")
    assert refused.status_code == 409
    assert refused.get_json()["cut"] == {"leases": 1, "peers": ["node1"]}
    assert "?force=true" in refused.get_json()["message"]
    assert call("admin", "DELETE", "/zones/zone-new?force=true").get_json()["zone"]["peers"] == 1
    assert call("read", "GET", "/zones/zone-new").status_code == 404
    assert call("admin", "DELETE", "/zones/zone-new?force=true").status_code == 404


def test_command_and_api_report_the_same_error(call: Call, command: Command) -> None:
    for words, body in (
        (["--cidr", "10.99.0.0/24"], {"cidr": ["10.99.0.0/24"]}),
        (["--cidr", "10.99.0.0/40"], {"cidr": ["10.99.0.0/40"]}),
        (["--cidr", "10.20.0.0/20", "--quarantine", "-1"], {"cidr": ["10.20.0.0/20"], "quarantine": -1}),
    ):
        answer = call("admin", "POST", "/zones", {"name": "zone-blue", **body})
        assert answer.status_code in (400, 409)
        assert answer.get_json()["message"] in command("zone", "add", "zone-blue", *words)


def test_a_lease_is_reserved_claimed_rekeyed_and_released(
    redis_server: RedisServer, store: Store, call: Call
) -> None:
    with committing(redis_server.address):
        body = {"name": "db1", "request_ip": ["10.20.0.30"], "child_prefixes": ["172.20.1.9/24"]}
        made = call("operator", "POST", "/ipam/leases/zone-blue", body).get_json()
        assert made == {
            "changed": True,
            "lease": {
                "zone": "zone-blue",
                "name": "db1",
                "addresses": ["10.20.0.30", "fd00:20::1"],
                "child_prefixes": ["172.20.1.0/24"],
                "state": "reserved",
            },
            "notes": made["notes"],
        }
        assert "172.20.1.0/24" in made["notes"][0]
        assert call("operator", "POST", "/ipam/leases/zone-blue", body).get_json()["changed"] is False
        assert (
            client_of(store, "zone-blue").ask(join("zone-blue", 1, name="db1"), 10).addresses[0]
            == "10.20.0.30"
        )
        taken = call("operator", "POST", "/ipam/leases/zone-blue", {**body, "name": "db2"})
        assert taken.status_code == 409
        assert (taken.get_json()["code"], "db1" in taken.get_json()["message"]) == ("address-taken", True)
        again = {"public_key": key_of(2), "name": "db1", "rekey": True}
        rekeyed = call("operator", "POST", "/ipam/leases/zone-blue", again).get_json()
        assert rekeyed["lease"]["addresses"][0] == "10.20.0.30"
        back = call("operator", "DELETE", "/ipam/leases/zone-blue?name=db1&child_prefix=172.20.1.0/24")
        assert back.get_json()["lease"]["child_prefixes"] == []
        gone = call("operator", "DELETE", "/ipam/leases/zone-blue?name=db1").get_json()
        assert (gone["changed"], gone["lease"]) == (True, None)
        assert call("operator", "DELETE", "/ipam/leases/zone-blue?name=db1").get_json()["changed"] is False


def test_a_peer_is_removed_by_any_spelling_of_its_key(
    redis_server: RedisServer, store: Store, call: Call
) -> None:
    with committing(redis_server.address):
        for key in (SLASHES, PLUS, key_of(1)):
            request = join("zone-red", 1)
            assert client_of(store, "zone-red").ask(type(request).validated("join", "zone-red", key), 10).ok
        assert client_of(store, "zone-blue").ask(join("zone-blue", 1), 10).ok
        assert call("operator", "DELETE", f"/peers/{SLASHES}").get_json()["changed"] is True
        assert call("operator", "DELETE", f"/peers/{url_form(PLUS)}").get_json()["changed"] is True
        both = call("operator", "DELETE", f"/peers/{key_of(1)}")
        assert (both.status_code, "?zone=NAME" in both.get_json()["message"]) == (409, True)
        assert call("tenant", "DELETE", f"/peers/{key_of(1)}").get_json()["changed"] is True
        assert call("tenant", "DELETE", f"/peers/{key_of(1)}").status_code == 404
        left = call("read", "GET", "/peers").get_json()
        assert [(peer["PublicKey"], peer["Zone"]) for peer in left] == [(key_of(1), "zone-blue")]


def test_the_removal_of_a_peer_that_redis_lost_reaches_the_nodes_that_retain_it(
    redis_server: RedisServer, store: Store, call: Call
) -> None:
    with committing(redis_server.address):
        gone = call("operator", "DELETE", f"/peers/{key_of(7)}")
        assert (gone.status_code, gone.get_json()["message"]) == (404, "peer not found")
        for zone in ("zone-blue", "zone-red"):
            [(_place, event)] = store.redis.xrange(ZoneKeys(zone).events)
            assert json.loads(event["o"]) == [["-", key_of(7)]]
        assert call("tenant", "DELETE", f"/peers/{key_of(8)}?zone=zone-blue").status_code == 404


def test_a_peer_is_blocked_listed_and_allowed_again(
    redis_server: RedisServer, store: Store, call: Call
) -> None:
    with committing(redis_server.address):
        assert client_of(store, "zone-red").ask(join("zone-red", 1), 10).ok
        path = f"/peers/{key_of(1)}"
        assert call("tenant", "DELETE", f"{path}?reason=stolen").status_code == 400
        assert call("tenant", "DELETE", f"{path}?block=true&reason=stolen").get_json()["lease"] is None
        [block] = call("tenant", "GET", "/zones/zone-red/blocked").get_json()
        assert (block["public_key"], block["reason"]) == (key_of(1), "stolen")
        assert block["by"] == "token its-tenant"
        refused = client_of(store, "zone-red").ask(join("zone-red", 1), 10)
        assert refused.code == "blocked"
        allowed = call("tenant", "DELETE", f"/zones/zone-red/blocked/{key_of(1)}").get_json()
        assert allowed == {"changed": True, "blocked": False, "public_key": key_of(1)}
        before = {"public_key": key_of(2), "reason": "lost"}
        assert call("tenant", "POST", "/zones/zone-red/blocked", before).get_json()["changed"] is True
        assert call("tenant", "POST", "/zones/zone-red/blocked", before).get_json()["changed"] is False
        assert client_of(store, "zone-red").ask(join("zone-red", 2), 10).code == "blocked"


def test_a_join_token_is_made_listed_and_removed(redis_server: RedisServer, store: Store, call: Call) -> None:
    with committing(redis_server.address):
        path = "/zones/zone-red/join-tokens"
        body = {"lifetime": 3600, "uses": 2, "names": ["web-*"], "grants": ["relay"]}
        made = call("tenant", "POST", path, body).get_json()
        text = made.pop("token")
        assert text.startswith(f"jwj_{made['id']}_")
        [listed] = call("tenant", "GET", path).get_json()
        assert (listed["id"], listed["uses_left"], listed["valid"]) == (made["id"], 2, True)
        assert (listed["names"], listed["grants"]) == (["web-*"], ["relay"])
        assert listed["by"] == "token its-tenant"
        assert text.rpartition("_")[2] not in str(listed)
        assert call("tenant", "DELETE", f"{path}/{made['id']}").get_json() == {"changed": True}
        assert call("tenant", "DELETE", f"{path}/{made['id']}").get_json() == {"changed": False}
        assert call("tenant", "GET", path).get_json() == []
        for wrong in ({"lifetime": 0}, {"lifetime": 60, "uses": 1001}, {"lifetime": 60, "names": ["A"]}, {}):
            assert call("tenant", "POST", path, wrong).status_code == 400, wrong


def test_a_node_that_waits_is_listed_and_approved(
    redis_server: RedisServer, store: Store, command: Command, call: Call
) -> None:
    with committing(redis_server.address):
        command("zone", "set", "zone-red", "--admission", "approval")
        client = client_of(store, "zone-red")
        for _again in range(2):
            assert client.ask(join("zone-red", 1), 10).code == "approval-needed"
        [waiting] = call("tenant", "GET", "/zones/zone-red/pending").get_json()
        assert (waiting["public_key"], waiting["name"]) == (key_of(1), "node1")
        assert call("tenant", "POST", "/ipam/leases/zone-red", {"public_key": key_of(1)}).status_code == 200
        assert client.ask(join("zone-red", 1), 10).ok
        assert call("tenant", "GET", "/zones/zone-red/pending").get_json() == []


NEW = {"name": "zone-x", "cidr": ["10.0.0.0/24"]}


@pytest.mark.parametrize(
    ("method", "path", "body", "roles"),
    [
        ("POST", "/zones", NEW, {"admin"}),
        ("PATCH", "/zones/zone-red", {"description": "x"}, {"admin"}),
        ("DELETE", "/zones/zone-red?force=no", None, {"admin"}),
        ("POST", "/ipam/leases/zone-red", {"name": "-"}, {"admin", "operator", "tenant"}),
        ("POST", "/ipam/leases/zone-blue", {"name": "-"}, {"admin", "operator"}),
        ("DELETE", "/ipam/leases/zone-blue", None, {"admin", "operator"}),
        ("DELETE", "/ipam/leases/zone-red/nonsense", None, {"admin", "operator", "tenant"}),
        ("POST", "/zones/zone-blue/blocked", {}, {"admin", "operator"}),
        ("DELETE", "/zones/zone-red/blocked/nonsense", None, {"admin", "operator", "tenant"}),
        ("GET", "/zones/zone-blue/blocked", None, {"admin", "operator", "read"}),
        ("GET", "/zones/zone-blue/pending", None, {"admin", "operator", "read"}),
        ("GET", "/zones/zone-blue/join-tokens", None, {"admin", "operator", "read"}),
        ("POST", "/zones/zone-blue/join-tokens", {}, {"admin", "operator"}),
        ("DELETE", "/zones/zone-red/join-tokens/nonsense", None, {"admin", "operator", "tenant"}),
        ("GET", "/zones/zone-blue", None, {"admin", "operator", "read"}),
        ("GET", "/ipam/leases/zone-blue", None, {"admin", "operator", "read"}),
        ("GET", "/healthz", None, {"admin", "operator", "read"}),
        ("GET", "/peers", None, {"admin", "operator", "read", "tenant"}),
    ],
)
def test_each_operation_requires_its_role(
    store: Store, api: FlaskClient, call: Call, method: str, path: str, body: object, roles: set[str]
) -> None:
    for role in (*tokens.ROLES, "tenant"):
        answer = call(role, method, path, body)
        assert (answer.status_code != 403) == (role in roles), role
        assert answer.status_code in (200, 400, 403)
    if method != "GET":
        answer = api.open(path, method=method, json=body)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    if "admin" not in roles:
        assert store.redis.smembers("jw:zones") == {"zone-blue", "zone-red"}


def test_a_tenant_reads_its_own_zone_only(redis_server: RedisServer, store: Store, call: Call) -> None:
    with committing(redis_server.address):
        for zone in ("zone-red", "zone-blue"):
            assert client_of(store, zone).ask(join(zone, 1 if zone == "zone-red" else 2), 10).ok
    assert [peer["Zone"] for peer in call("tenant", "GET", "/peers").get_json()] == ["zone-red"]
    assert [zone["Name"] for zone in call("tenant", "GET", "/zones").get_json()] == ["zone-red"]
    assert call("tenant", "GET", f"/peers/{key_of(2)}").status_code == 404


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer x", "Bearer \u00e4", "Basic YTpi", "bearer", "Digest a=b", "Bearer a=b, c=d"],
)
def test_an_invalid_token_is_refused(api: FlaskClient, header: str) -> None:
    """A request with an invalid token may not even read."""
    answer = api.get("/peers", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.get_json()["message"]


def test_a_peer_cannot_be_added_by_rest(call: Call) -> None:
    answer = call("admin", "POST", "/peers", {"PublicKey": key_of(1)})
    assert answer.status_code == 405
    assert answer.get_json()["message"]
    assert "GET" in answer.headers["Allow"]


def test_a_removed_token_is_invalid_at_once(store: Store, call: Call) -> None:
    assert call("read", "GET", "/peers").status_code == 200
    tokens.remove(store, "its-read")
    assert call("read", "GET", "/peers").status_code == 401


def test_requests_from_other_machines_need_a_token(
    replica: Replica, api: FlaskClient, bearer: dict[str, dict[str, str]]
) -> None:
    closed = create_app(replica, well, open_reads=False).test_client()
    for path in ("/peers", "/zones", "/healthz", "/nowhere"):
        assert closed.get(path).status_code == 401
        assert api.get(path, headers={"X-Forwarded-For": "192.0.2.9"}).status_code == 401
    assert closed.get("/peers", headers=bearer["read"]).status_code == 200
    public = {**bearer["read"], "Host": "mesh.example", "X-Forwarded-For": "192.0.2.9"}
    assert api.get("/peers", headers=public).status_code == 200


@pytest.mark.parametrize(
    ("body", "kind", "status", "expected"),
    [
        ("{}", "text/plain", 415, "Content-Type: application/json"),
        ("", "application/json", 400, "no JSON object"),
        ("[1]", "application/json", 400, "no JSON object"),
        ("[" * 50_000, "application/json", 400, "no JSON object"),
        ("{}", "application/json", 400, "the field name is missing: give a text"),
        ('{"name": "zone-x"}', "application/json", 400, "the zone zone-x has no pool"),
        ('{"name": 7}', "application/json", 400, "the field name is '7': give a text"),
        ('{"name": "zone-x", "cidr": "10.0.0.0/8"}', "application/json", 400, "give a list of texts"),
        ('{"name": "zone-x", "cidr": []}', "application/json", 400, "the field cidr is empty"),
        ('{"name": "zone-x", "cidr": [1]}', "application/json", 400, "give a list of texts"),
        ('{"name": "zone-x", "quarantine": true}', "application/json", 400, "give a whole number"),
        (
            '{"name": "zone-x", "colour": "red"}',
            "application/json",
            400,
            "the field 'colour' is unknown here",
        ),
        ('{"name": "zone-x", "takeover": "perhaps"}', "application/json", 400, "'perhaps' is unknown"),
        (json.dumps({"name": "x" * MAX_BODY_BYTES}), "application/json", 413, "exceeds the capacity limit"),
    ],
)
def test_an_invalid_body_is_refused(
    store: Store,
    api: FlaskClient,
    bearer: dict[str, dict[str, str]],
    body: str,
    kind: str,
    status: int,
    expected: str,
) -> None:
    answer = api.post("/zones", data=body, content_type=kind, headers=bearer["admin"])
    assert (answer.status_code, expected in answer.get_json()["message"]) == (status, True), answer.get_json()
    assert store.redis.smembers("jw:zones") == {"zone-blue", "zone-red"}


@pytest.mark.parametrize("password", ["", " ", "a\nb", " padded"])
def test_an_invalid_agents_password_is_refused_and_not_repeated(call: Call, password: str) -> None:
    answer = call("admin", "PATCH", "/zones/zone-red", {"agent_password": password})
    assert answer.status_code == 400
    assert "padded" not in answer.get_json()["message"]


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("DELETE", "/zones/zone-red?force=yes", "force is 'yes'"),
        ("DELETE", "/zones/zone-red?farce=true", "the argument 'farce' is unknown here: there are force"),
        ("DELETE", "/ipam/leases/zone-red", "the release names no lease"),
        ("DELETE", "/ipam/leases/zone-red?name=-", "'-' is no DNS label"),
        ("DELETE", f"/ipam/leases/zone-red/{SLASHES}?child_prefix=x", "'x' is no prefix"),
        ("DELETE", f"/peers/{SLASHES}?force=true", "the argument 'force' is unknown here"),
    ],
)
def test_invalid_arguments_are_refused(call: Call, method: str, path: str, expected: str) -> None:
    answer = call("admin", method, path)
    assert (answer.status_code, expected in answer.get_json()["message"]) == (400, True), answer.get_json()


def test_without_a_supervisor_or_redis_the_answer_names_the_cause(
    redis_server: RedisServer, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaywalk_supervisor.admin.operator_client.DECISION_TIMEOUT_SECONDS", 0.2)
    waits = call("operator", "POST", "/ipam/leases/zone-blue", {"name": "db1"})
    assert waits.status_code == 503
    assert "no supervisor answered" in waits.get_json()["message"]
    redis_server.crash()
    for role, method, path, body in (
        ("operator", "POST", "/ipam/leases/zone-blue", {"name": "db1"}),
        ("admin", "DELETE", "/zones/zone-blue", None),
    ):
        answer = call(role, method, path, body)
        assert answer.status_code == 503
        assert "cannot be reached" in answer.get_json()["message"]
    assert call("read", "GET", "/zones").status_code == 200


def test_the_log_names_each_write_and_its_token_but_no_secret(
    call: Call, bearer: dict[str, dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        call("admin", "PATCH", "/zones/zone-red", {"agent_password": "secret-of-agents"})
        call("read", "DELETE", "/zones/zone-red")
        call("read", "DELETE", "/zones/zone-red%0aanother line")
    assert "PATCH '/zones/zone-red' by token its-admin: 200" in caplog.messages
    assert "DELETE '/zones/zone-red' by token its-read: 403" in caplog.messages
    assert "DELETE '/zones/zone-red?another line' by token its-read: 403" in caplog.messages
    assert "secret-of-agents" not in caplog.text
    assert not [header for header in bearer.values() if header["Authorization"].split()[1] in caplog.text]


def test_a_write_reaches_a_controller_that_was_away_before(redis_server: RedisServer, call: Call) -> None:
    assert call("admin", "PATCH", "/zones/zone-red", {"description": "before"}).status_code == 200
    redis_server.crash()
    assert call("admin", "PATCH", "/zones/zone-red", {"description": "lost"}).status_code == 503
    redis_server.start()
    answer = call("admin", "PATCH", "/zones/zone-red", {"description": "after"})
    assert answer.get_json()["zone"]["description"] == "after"
