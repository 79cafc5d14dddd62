# SPDX-License-Identifier: GPL-3.0-or-later
"""The REST API in the original's shapes, over a real Redis."""

from __future__ import annotations

import base64
import http.client
import json
import socket
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from jaywalk.core.key_format import url_form
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import Request
from jaywalk_supervisor.api.app import create_app
from jaywalk_supervisor.api.replica import Replica
from jaywalk_supervisor.store.store import Store
from tests.redis_server import RedisServer
from tests.supervisor_support import client_of, committing, join, key_of, serving, well

SLASHES = base64.b64encode(b"\xff" * 32).decode()
"""``//////...8=``: as many slashes as a key can have."""
PLUS = base64.b64encode(b"\xfb\xef\xbe" * 10 + b"\xfb\xec").decode()


def settle(redis_server: RedisServer, store: Store, *requests: Request) -> None:
    """Has a committer carry out ``requests``, one after another."""
    with committing(redis_server.address):
        for request in requests:
            assert client_of(store, request.zone).ask(request, timeout=20).ok


def test_peers(redis_server: RedisServer, store: Store, api: FlaskClient) -> None:
    assert api.get("/peers").get_json() == []
    settle(
        redis_server,
        store,
        join("zone-red", 1, endpoint="3.94.59.204:51820"),
        join("zone-blue", 2, child_prefixes=["172.20.1.0/24"], endpoint="[2001:db8::1]:51820"),
    )
    red = {
        "PublicKey": key_of(1),
        "EndpointIP": "3.94.59.204:51820",
        "AllowedIPs": "10.20.0.1/32",
        "Zone": "zone-red",
        "NodeAddress": "10.20.0.1",
        "ChildPrefix": "",
        "Name": "node1",
    }
    blue = {
        "PublicKey": key_of(2),
        "EndpointIP": "[2001:db8::1]:51820",
        "AllowedIPs": "10.20.0.1/32, fd00:20::1/128, 172.20.1.0/24",
        "Zone": "zone-blue",
        "NodeAddress": "10.20.0.1, fd00:20::1",
        "ChildPrefix": "172.20.1.0/24",
        "Name": "node2",
    }
    store.record_last_seen("zone-red", {key_of(1): 1795362423})
    store.redis.delete(ZoneKeys("zone-blue").last_seen)
    red["LastSeen"], blue["LastSeen"] = "2026-11-22T15:47:03Z", ""
    assert api.get("/peers").get_json() == [blue, red]
    assert api.get(f"/peers/{key_of(1)}").get_json() == red
    settle(redis_server, store, Request.validated("leave", "zone-blue", key_of(2)))
    assert api.get("/peers").get_json() == [red]


def test_zones(api: FlaskClient) -> None:
    answer = api.get("/zones")
    assert answer.get_json() == [
        {"Name": "zone-blue", "Description": "Tenancy Zone Blue", "IpCidr": "10.20.0.0/20, fd00:20::/64"},
        {"Name": "zone-red", "Description": "Tenancy Zone Red", "IpCidr": "10.20.0.0/29"},
    ]
    assert list(answer.get_json()[0]) == ["Name", "Description", "IpCidr"]


def test_leases_hold_network_and_broadcast(redis_server: RedisServer, store: Store, api: FlaskClient) -> None:
    settle(redis_server, store, join("zone-red", 1), join("zone-red", 2))
    settle(redis_server, store, Request.validated("leave", "zone-red", key_of(1)))
    assert api.get("/ipam/leases/zone-red").get_json() == [
        {
            "Cidr": "10.20.0.0/29",
            "IPs": dict.fromkeys(["10.20.0.0", "10.20.0.1", "10.20.0.2", "10.20.0.7"], True),
        }
    ]
    assert api.get("/ipam/leases/zone-blue").get_json()[1] == {
        "Cidr": "fd00:20::/64",
        "IPs": {"fd00:20::": True},
    }


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/peers/nonsense", 404, "peer not found"),
        (f"/peers/{SLASHES}", 404, "peer not found"),
        ("/peers/%ff%00", 404, "peer not found"),
        ("/ipam/leases/zone-none", 404, "zone not found"),
        ("/nowhere", 404, None),
    ],
)
def test_a_missing_resource_is_404(api: FlaskClient, path: str, status: int, message: str | None) -> None:
    answer = api.get(path)
    assert answer.status_code == status
    assert answer.get_json()["message"] == message or message is None


def test_an_internal_error_is_json_without_its_cause(
    replica: Replica, api: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "zones", lambda: 1 / 0)
    answer = api.get("/peers")
    assert answer.status_code == 500
    assert answer.get_json() == {"message": "internal error: see the supervisor's log"}


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8080", 200),
        ("127.0.0.1", 200),
        ("[::1]:8080", 200),
        (f"{socket.gethostname()}:8080", 200),
        ("evil.example:8080", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
    ],
)
def test_a_host_header_of_another_name_is_refused(api: FlaskClient, host: str, status: int) -> None:
    answer = api.get("/peers", headers={"Host": host})
    assert answer.status_code == status
    assert (status == 200) == isinstance(answer.get_json(), list)


def test_without_redis_the_last_known_state_is_served(
    redis_server: RedisServer, store: Store, replica: Replica, api: FlaskClient
) -> None:
    settle(redis_server, store, join("zone-red", 1))
    before = api.get("/peers").get_json()
    redis_server.crash()
    assert api.get("/peers").get_json() == before != []
    redis_server.start()
    replica._try_after = 0.0
    again = Store.open(redis_server.address, "test")
    settle(redis_server, again, join("zone-red", 2))
    assert len(api.get("/peers").get_json()) == 2


def test_without_any_state_the_answer_is_503_and_not_an_empty_list() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = RedisServer().address_of("supervisor", "x")
    replica = Replica(address)
    answer = create_app(replica, well).test_client().get("/peers")
    assert answer.status_code == 503
    assert "cannot be reached" in answer.get_json()["message"]


def test_health_sets_the_status_code(replica: Replica) -> None:
    failing = create_app(replica, lambda: ({"status": "failing"}, False)).test_client().get("/healthz")
    assert (failing.status_code, failing.get_json()) == (503, {"status": "failing"})


def test_keys_in_urls_over_the_real_server(redis_server: RedisServer, store: Store, replica: Replica) -> None:
    keys = [SLASHES, PLUS, *(key_of(number) for number in range(20))]
    joins = [Request.validated("join", "zone-blue", key) for key in keys]
    settle(redis_server, store, *joins)
    with serving(create_app(replica, well)) as port:
        for key in keys:
            forms = {key, quote(key, safe=""), quote(key), url_form(key), url_form(key).rstrip("=")}
            for form in forms:
                assert fetch(port, f"/peers/{form}")["PublicKey"] == key, form


def fetch(port: int, path: str) -> dict[str, str]:
    """GETs ``path`` just as it is written, which clients that tidy URLs do not."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    body: dict[str, str] = json.loads(answer.read())
    assert answer.status == 200, body
    connection.close()
    return body
