# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from jaywalk_supervisor.monitoring.client_bounds import Client, surplus

NUMBERS = count(1)
NODE = "node-zone-blue-0123456789abcdef01234567"


def client(user: str, host: str = "192.0.2.1", waits: bool = True, **fields: Any) -> Client:
    values = {"age": 100, "command": "xread", **fields}
    return Client(next(NUMBERS), user, host, waits=waits, **values)


@pytest.mark.parametrize(
    ("user", "zone"),
    [("agent-zone-blue", "zone-blue"), (NODE, "zone-blue"), ("supervisor", ""), ("default", "")],
)
def test_the_zone_of_a_connection_is_that_of_its_user(user: str, zone: str) -> None:
    assert client(user).zone == zone


def test_a_zone_over_its_bound_loses_connections_and_others_keep_theirs() -> None:
    agents = [client(NODE, host=f"192.0.2.{number}") for number in range(20)]
    idle = [client("agent-zone-blue", host="198.51.100.1", waits=False) for _ in range(50)]
    others = [client("agent-zone-red") for _ in range(30)]
    closed = surplus([*idle, *agents, *others], {"zone-blue": 25, "zone-red": 30}, "supervisor")
    assert list(closed) == ["zone-blue"]
    assert len(closed["zone-blue"]) == 45
    assert set(closed["zone-blue"]) <= set(idle)


def test_of_one_address_those_that_wait_for_events_stay() -> None:
    idle = [client("agent-zone-blue", waits=False, age=1000) for _ in range(5)]
    agents = [client("agent-zone-blue") for _ in range(5)]
    assert surplus([*idle, *agents], {"zone-blue": 5}, "supervisor")["zone-blue"] == idle


@pytest.mark.parametrize(
    ("command", "age", "closed"), [("NULL", 6, 1), ("auth", 6, 1), ("NULL", 1, 0), ("get", 6, 0)]
)
def test_who_does_not_log_in_is_closed_after_a_moment(command: str, age: int, closed: int) -> None:
    silent = client("default", waits=False, command=command, age=age)
    assert len(surplus([silent], {}, "supervisor").get("", [])) == closed


def test_where_all_use_the_default_user_nobody_counts_as_logged_out() -> None:
    assert surplus([client("default", command="NULL", age=99)], {}, "default") == {}


def test_the_connections_of_supervisors_and_operators_stay() -> None:
    assert surplus([client("supervisor", waits=False) for _ in range(500)], {}, "supervisor") == {}
