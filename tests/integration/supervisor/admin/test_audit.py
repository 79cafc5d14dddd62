# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit: each change of a zone, lease or token with its author, before and after; over a real Redis."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from jaywalk.service.operator import operator_name
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import Request
from jaywalk_supervisor.admin import audit, tokens
from jaywalk_supervisor.admin.audit import AuditRecord
from jaywalk_supervisor.store.store import Store
from tests.redis_server import RedisServer
from tests.supervisor_support import COMMAND, IMPORTS, Command, client_of, committing, join, key_of

KEYS = ZoneKeys("zone-blue")
OPERATOR = f"operator {operator_name()}"
Records = Callable[[], list[AuditRecord]]


@pytest.fixture
def records(store: Store) -> Records:
    """Returns the records of zone-blue since the last call."""
    follower = audit.Follower(store, "zone-blue")
    return lambda: list(follower.new())


@pytest.fixture
def _served(redis_server: RedisServer) -> Iterator[None]:
    with committing(redis_server.address):
        yield


@pytest.fixture
def run_command(redis_server: RedisServer, tmp_path: Path) -> Command:
    """Runs ``jaywalk-supervisor WORDS`` and returns its output."""
    file = tmp_path / "controller.password"
    file.write_text(redis_server.password)
    where = ["--streamer-address", f"127.0.0.1:{redis_server.port}", "--streamer-user", "supervisor"]

    def run(*words: str) -> str:
        argv = [*COMMAND, *words, *where, "--streamer-passwd-file", str(file)]
        environment = {**os.environ, "PYTHONPATH": IMPORTS}
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout

    return run


def told(record: AuditRecord) -> tuple[str, str, str]:
    return record.who, record.action, record.record


def field(record: AuditRecord, name: str) -> tuple[Any, Any]:
    """The field of the record before and after; None where there is no record or no such field."""
    return (record.before or {}).get(name), (record.after or {}).get(name)


@pytest.mark.usefixtures("_served")
def test_a_node_is_the_author_of_what_its_requests_change(store: Store, records: Records) -> None:
    records()
    client, me = client_of(store, "zone-blue"), f"node {key_of(1)}"
    assert client.ask(join("zone-blue", 1, child_prefixes=["172.20.1.0/24"]), 20).ok
    [joined] = records()
    assert told(joined) == (me, "join", f"lease {key_of(1)}")
    assert joined.before is None
    assert field(joined, "addresses") == (None, ["10.20.0.1", "fd00:20::1"])
    assert client.ask(join("zone-blue", 1, child_prefixes=["172.20.2.0/24"]), 20).ok
    [moved] = records()
    assert field(moved, "prefixes") == (["172.20.1.0/24"], ["172.20.2.0/24"])
    assert client.ask(Request.validated("leave", "zone-blue", key_of(1)), 20).ok
    [left] = records()
    assert told(left) == (me, "leave", f"lease {key_of(1)}")
    assert field(left, "released")[0] is None
    assert field(left, "released")[1] > 0


@pytest.mark.usefixtures("_served")
def test_what_a_node_takes_from_another_one_is_a_record_of_both(store: Store, records: Records) -> None:
    client = client_of(store, "zone-blue")
    client.ask(join("zone-blue", 1), 20)
    records()
    assert client.ask(join("zone-blue", 2, request_ip=["10.20.0.1"]), 20).ok
    found = {told(record): field(record, "addresses") for record in records()}
    taker = f"node {key_of(2)}"
    assert found.keys() == {(taker, "join", f"lease {key_of(1)}"), (taker, "join", f"lease {key_of(2)}")}
    before, after = found[taker, "join", f"lease {key_of(1)}"]
    assert "10.20.0.1" in before and "10.20.0.1" not in after


@pytest.mark.usefixtures("_served")
def test_what_changes_no_lease_is_no_record(store: Store, records: Records) -> None:
    client = client_of(store, "zone-blue")
    client.ask(join("zone-blue", 1), 20)
    records()
    client.ask(join("zone-blue", 1), 20)
    client.ask(Request.validated("endpoint", "zone-blue", key_of(1), endpoint="192.0.2.9:51820"), 20)
    assert not client.ask(join("zone-blue", 2, request_ip=["192.0.2.1"]), 20).ok
    assert records() == []


@pytest.mark.usefixtures("_served")
def test_a_node_cannot_name_somebody_else_as_the_author(store: Store, records: Records) -> None:
    records()
    client_of(store, "zone-blue").ask(replace(join("zone-blue", 1), by="operator root@control"), 20)
    assert [record.who for record in records()] == [f"node {key_of(1)}"]


@pytest.mark.usefixtures("_served")
def test_a_block_and_its_end_are_recorded(store: Store, command: Command, records: Records) -> None:
    client_of(store, "zone-blue").ask(join("zone-blue", 1), 20)
    records()
    command("peer", "remove", key_of(1), "--reason", "stolen")
    command("peer", "allow", key_of(1), "--zone", "zone-blue")
    blocked, ended, allowed = records()
    assert told(blocked) == (OPERATOR, "block", f"block {key_of(1)}")
    assert field(blocked, "reason") == (None, "stolen")
    assert told(ended) == (OPERATOR, "block", f"lease {key_of(1)}")
    assert told(allowed) == (OPERATOR, "allow", f"block {key_of(1)}")


def test_a_command_is_recorded_with_its_user(store: Store, command: Command, records: Records) -> None:
    command("zone", "add", "zone-blue", "--cidr", "10.20.0.0/24")
    command("zone", "set", "zone-blue", "--cidr", "10.20.0.0/20", "--takeover", "never")
    added, changed = records()
    assert told(added) == (OPERATOR, "zone-add", "zone")
    assert field(added, "pools") == (None, ["10.20.0.0/24"])
    assert told(changed) == (OPERATOR, "zone-set", "zone")
    assert field(changed, "pools") == (["10.20.0.0/24"], ["10.20.0.0/20"])
    assert [policy["takeover"] for policy in field(changed, "policy")] != ["never", "never"]
    assert command("zone", "set", "zone-blue", "--takeover", "never")["changed"] is False
    assert records() == [], "nothing changed"


def test_the_audit_of_a_removed_zone_stays(store: Store, command: Command, records: Records) -> None:
    command("zone", "add", "zone-blue", "--cidr", "10.20.0.0/24")
    command("zone", "remove", "zone-blue")
    assert [record.action for record in records()] == ["zone-add", "zone-remove"]
    assert [record.action for record in audit.read(store)] == ["zone-add", "zone-remove"]


def test_a_new_password_is_a_record_without_the_password_and_its_hash(
    store: Store, command: Command, records: Records, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("new-password-of-agents")
    command("zone", "add", "zone-blue", "--cidr", "10.20.0.0/24")
    records()
    command("zone", "set", "zone-blue", "--agent-password-file", str(file))
    [changed] = records()
    assert told(changed) == (OPERATOR, "password", "zone")
    assert (changed.before, changed.after) == (None, None)


def test_tokens_are_recorded_without_their_hash(store: Store, command: Command) -> None:
    command("token", "add", "its-admin", "--role", "admin")
    command("token", "remove", "its-admin")
    added, removed = audit.read(store)
    assert told(added) == (OPERATOR, "token-add", "token its-admin")
    assert added.after is not None
    assert added.after.keys() == {"role", "zone", "created"}
    assert (told(removed)[1], removed.before, removed.after) == ("token-remove", added.after, None)


@pytest.mark.usefixtures("_served")
def test_the_token_of_a_rest_request_is_its_author(store: Store, api: FlaskClient, records: Records) -> None:
    headers = {"Authorization": f"Bearer {tokens.add(store, 'its-admin', 'admin')}"}
    records()
    api.patch("/zones/zone-blue", headers=headers, json={"quarantine": 77})
    api.post("/ipam/leases/zone-blue", headers=headers, json={"name": "db1"})
    changed, reserved = records()
    assert told(changed)[:2] == ("token its-admin", "zone-set")
    assert told(reserved)[:2] == ("token its-admin", "reserve")
    shown = api.get("/audit?zone=zone-blue&limit=2", headers=headers).get_json()
    assert shown == [changed.to_json(), reserved.to_json()]
    assert api.get("/audit?zone=zone-blue&since=1d&limit=1", headers=headers).get_json() == shown[1:]


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "since=tomorrow", "zone=../x", "who=me"])
def test_an_invalid_query_of_the_audit_is_refused(store: Store, api: FlaskClient, query: str) -> None:
    headers = {"Authorization": f"Bearer {tokens.add(store, 'its-admin', 'admin')}"}
    assert api.get(f"/audit?{query}", headers=headers).status_code == 400


def test_the_command_shows_what_is_new_since_a_time(store: Store, run_command: Command) -> None:
    run_command("zone", "add", "zone-blue", "--cidr", "10.20.0.0/24")
    assert "zone-add  zone  pools: none -> " in run_command("audit")
    lines = run_command("audit", "--since", "1h", "--json").splitlines()
    assert [json.loads(line)["action"] for line in lines] == ["zone-add"]
    assert run_command("audit", "--since", "2999-01-01") == ""
    assert run_command("audit", "--zone", "zone-red") == ""


def test_the_oldest_records_are_dropped_beyond_the_limit(
    store: Store, command: Command, records: Records
) -> None:
    command("zone", "add", "zone-blue", "--cidr", "10.20.0.0/24")
    with store.redis.pipeline() as pipe:
        for number in range(10_500):
            pipe.xadd(KEYS.audit, {"who": f"node {number}", "action": "join", "record": "lease"})
        pipe.execute()
    command("zone", "set", "zone-blue", "--quarantine", "9")
    assert 10_000 <= store.redis.xlen(KEYS.audit) <= 10_200
    assert records()[-1].action == "zone-set"


@pytest.mark.usefixtures("_served")
def test_nodes_push_out_no_record_of_an_operator(store: Store) -> None:
    operators = store.redis.xlen(KEYS.audit)
    client_of(store, "zone-blue").ask(join("zone-blue", 1), 20)
    assert store.redis.xlen(KEYS.audit) == operators
    assert store.redis.xlen(KEYS.node_audit) == 1


def test_a_key_of_another_type_does_not_end_the_audit(
    store: Store, command: Command, records: Records
) -> None:
    store.redis.set(KEYS.audit, "written by hand")
    command("zone", "add", "zone-blue", "--cidr", "10.20.0.0/24")
    assert [record.action for record in records()] == ["zone-add"]
    [kept] = store.redis.keys(f"{KEYS.audit}:[0-9]*")
    assert store.redis.get(kept) == "written by hand"


def test_a_text_of_a_record_forges_no_line() -> None:
    text = "node x\n2026-11-29T00:00:00.000Z  zone-blue  supervisor\x1b[2J\u202e"
    record = AuditRecord.from_entry(
        "zone-blue", "1-0", {"who": text, "record": "zone", "after": '{"n":"\\n"}'}
    )
    assert record.to_line().isprintable()
    assert json.dumps(record.to_json()).isprintable()
