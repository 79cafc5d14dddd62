# SPDX-License-Identifier: GPL-3.0-or-later
"""Every route of the REST API with too little authority.

The routes and the roles that they need are those of the document that the server itself serves, so that a
new route is tried as soon as it is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import pytest

from jaywalk_supervisor.admin.tokens import ROLES
from tests.attacks.installation import Installation
from tests.supervisor_support import join, key_of

ZONE, OTHER_ZONE = "zone-blue", "zone-red"
KEY = key_of(1)
READS = ("get",)


@dataclass(frozen=True)
class Route:
    """An operation of the document: ``role`` is the one that it needs."""

    method: str
    path: str
    role: str

    @property
    def is_read(self) -> bool:
        return self.method in READS

    @property
    def aimed(self) -> str:
        """The path with the zone and the key of the victim in it."""
        return self.path.format(zone=ZONE, key=quote(KEY, safe=""), id="0f1e2d3c")

    @property
    def lower_roles(self) -> tuple[str, ...]:
        return ROLES[: ROLES.index(self.role)]


@pytest.fixture(scope="module")
def routes(installation: Installation) -> list[Route]:
    assert installation.ask(join(ZONE, 1)).ok
    document = installation.api("GET", "/openapi.json").body
    found = [
        Route(method, path, _role(operation["security"]))
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]
    assert sum(not route.is_read for route in found) >= 7
    return found


def _role(security: list[dict[str, list[str]]]) -> str:
    """Return the role that an operation needs: a write names it, a read needs the lowest."""
    [roles] = [each["bearer"] for each in security if each]
    return roles[0] if roles else ROLES[0]


@pytest.fixture(scope="module")
def tokens(installation: Installation) -> dict[tuple[str, str], str]:
    """A token of each role, for all zones and for the other zone alone."""
    return {
        (role, zone): installation.token(f"{role}-{zone or 'all'}", role, zone)
        for role in ROLES
        for zone in ("", OTHER_ZONE)
    }


@pytest.fixture(autouse=True)
def _nothing_changes(installation: Installation, routes: list[Route], tokens: object) -> Iterator[None]:
    """After a test no zone, lease, peer or token is another one, but in the zone whose tokens are tried."""
    before = dump(installation)
    yield
    assert dump(installation) == before


def dump(installation: Installation) -> dict[bytes, bytes]:
    server = installation.server.raw()
    own = f"{{{OTHER_ZONE}}}:".encode()
    return {key: server.dump(key) for key in server.keys("*") if b"leader" not in key and own not in key}


def bodies(route: Route) -> list[object]:
    """Return bodies to send: none, an empty one, and one that every write of its kind accepts."""
    if route.is_read or route.method == "delete":
        return [None]
    return [None, {}, {"name": "zone-made", "cidr": ["10.77.0.0/24"]}, {"name": "host1"}, {"quarantine": 1}]


def test_no_route_writes_without_a_token(installation: Installation, routes: list[Route]) -> None:
    answered = {
        (route.method, route.path, str(body)): installation.api(
            route.method.upper(), route.aimed, body=body
        ).status
        for route in routes
        if not route.is_read
        for body in bodies(route)
    }
    assert set(answered.values()) == {401}, answered


def test_every_write_names_the_role_that_it_needs(routes: list[Route]) -> None:
    assert [route for route in routes if not route.is_read and not route.lower_roles] == []


def test_no_route_accepts_a_token_of_a_lower_role(
    installation: Installation, routes: list[Route], tokens: dict[tuple[str, str], str]
) -> None:
    answered = {
        (route.method, route.path, role, str(body)): installation.api(
            route.method.upper(), route.aimed, tokens[role, ""], body
        ).status
        for route in routes
        for role in route.lower_roles
        for body in bodies(route)
    }
    assert set(answered.values()) == {403}, answered


def test_no_route_accepts_a_token_of_another_zone(
    installation: Installation, routes: list[Route], tokens: dict[tuple[str, str], str]
) -> None:
    """Neither reads nor writes: what a token may not see looks like what is not there."""
    for route in routes:
        for role in ROLES[ROLES.index(route.role) :]:
            for body in bodies(route):
                answer = installation.api(route.method.upper(), route.aimed, tokens[role, OTHER_ZONE], body)
                text = json.dumps(answer.body)
                if route.is_read and "{" not in route.path:
                    assert KEY not in text and ZONE not in text, (route, role)
                else:
                    assert answer.status in (403, 404), (route, role, answer)
                    assert "10.20.0." not in text, (route, role, answer)


@pytest.mark.parametrize(
    "name", ["Zone Blue", "../zone", "zone\nblue", "-", "a" * 64, "zone-blue/x", "{z}", "%00", ""]
)
def test_a_hostile_name_of_a_zone_is_refused(
    installation: Installation, tokens: dict[tuple[str, str], str], name: str
) -> None:
    """Also for whoever may add zones: the name becomes a part of Redis keys, users and file names."""
    body = {"name": name, "cidr": ["10.77.0.0/24"]}
    answer = installation.api("POST", "/zones", tokens["admin", ""], body)
    assert answer.status == 400, answer
    path = installation.api("PATCH", f"/zones/{quote(name, safe='')}", tokens["admin", ""], {"quarantine": 5})
    assert path.status in (400, 404, 405), path
