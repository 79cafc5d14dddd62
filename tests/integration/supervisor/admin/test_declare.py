# SPDX-License-Identifier: GPL-3.0-or-later
"""All zones of an inventory at once: created, grown, refused before any changes; others are listed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jaywalk.zone.patch import ZonePatch
from jaywalk_supervisor.admin import declare, zones
from jaywalk_supervisor.admin.declare import Declaration
from jaywalk_supervisor.store.connection import client_name
from jaywalk_supervisor.store.store import Store
from tests.redis_server import RedisServer
from tests.supervisor_support import Command, client_of, committing, join

Declare = Callable[..., Any]


@pytest.fixture
def declared(command: Command, tmp_path: Path) -> Declare:
    """Runs ``zone declare`` with a file of those zones."""

    def run(*entries: dict[str, Any], check: bool = False, supervisors: list[str] | None = None) -> Any:
        file = tmp_path / "zones.json"
        file.write_text(json.dumps({"zones": entries, "supervisors": supervisors}))
        return command("zone", "declare", str(file), *(["--check"] if check else []))

    return run


def pools_of(store: Store, name: str) -> tuple[str, ...]:
    return store.load(name).zone.pools


def test_zones_are_created_once_with_their_passwords(store: Store, declared: Declare, tmp_path: Path) -> None:
    (tmp_path / "a.password").write_text("a-password-of-agents\n")
    entries = (
        {"name": "zone-a", "cidr": "10.7.0.0/24", "agent_password_file": str(tmp_path / "a.password")},
        {"name": "zone-b", "cidr": ["10.7.0.0/24", "10.8.0.0/24"], "cidr6": "fd07::/64", "quarantine": 60},
    )
    preview = declared(*entries, check=True)
    assert preview["changed"] and store.zones() == []
    done = declared(*entries)
    assert done["diff"] == preview["diff"]
    assert pools_of(store, "zone-b") == ("10.7.0.0/24", "10.8.0.0/24", "fd07::/64")
    assert not declared(*entries)["changed"]
    (tmp_path / "a.password").write_text("another-password-of-agents\n")
    assert declared(*entries)["changed"]


@pytest.mark.parametrize(
    "grown",
    [
        {"cidr": "10.7.0.0/22"},
        {"cidr": "10.7.0.0/24, 10.9.0.0/24"},
        {"cidr": "10.7.0.0/24", "cidr6": "fd07::/64"},
    ],
)
def test_a_declared_pool_may_grow(store: Store, declared: Declare, grown: dict[str, str]) -> None:
    declared({"name": "zone-a", "cidr": "10.7.0.0/24", "description": "A"})
    entry = {"name": "zone-a", **grown}
    preview = declared(entry, check=True)
    assert preview["changed"] and pools_of(store, "zone-a") == ("10.7.0.0/24",)
    assert declared(entry)["diff"] == preview["diff"]
    assert len(pools_of(store, "zone-a")) == len(",".join(grown.values()).split(","))
    assert store.load("zone-a").zone.description == "A"
    assert not declared(entry)["changed"]


@pytest.mark.parametrize(
    "declaration", [{"cidr": "10.7.0.0/25"}, {"cidr": "10.8.0.0/24"}, {"cidr6": "fd07::/64"}]
)
def test_a_pool_that_shrinks_or_moves_is_refused_before_any_zone_changes(
    store: Store, declared: Declare, declaration: dict[str, str]
) -> None:
    declared({"name": "zone-a", "cidr": "10.7.0.0/24"})
    for check in (True, False):
        error = declared(
            {"name": "zone-new", "cidr": "10.1.0.0/24"}, {"name": "zone-a", **declaration}, check=check
        )
        assert "zone zone-a exists with 10.7.0.0/24 and is declared with" in error
        assert "pools may grow, and neither shrink nor move" in error
    assert store.zones() == ["zone-a"]
    assert pools_of(store, "zone-a") == ("10.7.0.0/24",)


def test_all_refusals_are_reported_at_once(declared: Declare) -> None:
    declared({"name": "zone-a", "cidr": "10.7.0.0/24"}, {"name": "zone-b", "cidr": "10.7.0.0/24"})
    error = declared({"name": "zone-a", "cidr": "10.8.0.0/24"}, {"name": "zone-b", "cidr": "10.7.0.0/25"})
    assert "zone zone-a exists" in error and "zone zone-b exists" in error


def test_a_pool_that_grows_over_a_child_prefix_is_refused(
    redis_server: RedisServer, store: Store, declared: Declare
) -> None:
    declared({"name": "zone-a", "cidr": "10.7.0.0/24"})
    with committing(redis_server.address):
        request = join("zone-a", 1, child_prefixes=["10.7.1.0/24"])
        assert client_of(store, "zone-a").ask(request, 20).ok
    error = declared({"name": "zone-a", "cidr": "10.7.0.0/16"}, check=True)
    assert "overlaps the child prefix 10.7.1.0/24" in error


def test_undeclared_zones_and_supervisors_are_listed(
    redis_server: RedisServer, store: Store, declared: Declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAYWALK_SUPERVISOR_NAME", "old control")
    declared({"name": "zone-old", "cidr": "10.7.0.0/24"})
    with committing(redis_server.address):
        assert client_of(store, "zone-old").ask(join("zone-old", 1), 20).ok
        here = [{"name": "zone-a", "cidr": "10.7.0.0/24"}]
        for check in (True, False):
            found = declared(*here, check=check, supervisors=["control"])["undeclared"]
            assert {"name": "zone-old", "peers": 1, "leases": 1} in found["zones"]
            assert "zone-a" not in {zone["name"] for zone in found["zones"]}
            assert found["supervisors"] == ["old-control"]
        assert declared(*here, supervisors=["old-control"])["undeclared"]["supervisors"] == []
        assert declared(*here)["undeclared"]["supervisors"] == [], "the declaration names no supervisors"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "cannot read zones from"),
        ("[]", "has no list of zones"),
        ('{"zones": [7]}', "has no name"),
        ('{"zones": [{"name": "zone-a", "cdir": "x"}]}', "cdir, which is unknown"),
        ('{"zones": [{"name": "zone-a", "cidr": "10.0.0.0/33"}]}', "'10.0.0.0/33' is no prefix"),
        ('{"zones": [{"name": "zone-a"}]}', "has no pool"),
    ],
)
def test_an_invalid_file_is_reported_in_one_sentence(
    command: Command, tmp_path: Path, text: str, expected: str
) -> None:
    file = tmp_path / "zones.json"
    file.write_text(text)
    answer = command("zone", "declare", str(file))
    assert expected in answer
    assert "Traceback" not in answer


def test_undeclared_zones_and_supervisors_are_sentences_for_people(store: Store) -> None:
    zones.add(store, "zone-old", ZonePatch(cidr=["10.7.0.0/24"]), None)
    found = declare.find_undeclared(store, Declaration((), ("control",)))
    assert declare.undeclared_lines({**found, "supervisors": ["spare"]}) == [
        "zone zone-old is not declared (0 peers, 0 leases)",
        "supervisor spare is not declared",
    ]


def test_a_supervisor_has_its_configured_name_or_its_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAYWALK_SUPERVISOR_NAME", raising=False)
    assert client_name().startswith("jaywalk-supervisor@")
    monkeypatch.setenv("JAYWALK_SUPERVISOR_NAME", "mesh control\n")
    assert client_name() == "jaywalk-supervisor@mesh-control-"
