# SPDX-License-Identifier: GPL-3.0-or-later
"""What a member of a zone can not have by its own word, and what an operator's word adds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from jaywalk.core import ip
from jaywalk.zone.models import Peer
from jaywalk.zone.record_fields import ENDPOINT, LEASE, RELAY
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import Reply, Request
from jaywalk_supervisor.committer.key_rates import BURST
from jaywalk_supervisor.monitoring.installation import installation_of
from tests.attacks.installation import ANSWER_SECONDS, POOLS, Installation
from tests.supervisor_support import join, key_of
from tests.waiting import eventually

ZONE = "zone-blue"
AddZone = Callable[..., str]


def operator(installation: Installation, op: str, zone: str, number: int | None, **fields: Any) -> Reply:
    """Send an operator's request about the key ``number``, or about a host by its name."""
    client = installation.operator_client(zone)
    request = Request.validated(op, zone, "" if number is None else key_of(number), **fields)
    return client.ask(request, ANSWER_SECONDS, client.keys.operator_inbox)


def record(installation: Installation, zone: str, number: int) -> Peer:
    return installation.operator_client(zone).snapshot().peers[key_of(number)]


@pytest.fixture
def zone_of(installation: Installation, request: pytest.FixtureRequest) -> AddZone:
    """Adds a zone of this test with the given options of ``zone add`` and returns its name."""

    def add(*options: str) -> str:
        name = f"zone-{abs(hash(request.node.name)) % 10**9}"
        installation.add_zone(name, *options)
        return name

    return add


def test_a_member_is_no_relay_by_its_own_word_but_by_an_operators(installation: Installation) -> None:
    asked: dict[str, Any] = {"endpoint": "192.0.2.1:51820", "relay": 51821}
    reply = installation.ask(join(ZONE, 100, **asked))
    assert reply.ok
    assert "lets no node relay by its own word" in reply.notes[0]
    assert record(installation, ZONE, 100).relay == 0
    moved = Request.validated("endpoint", ZONE, key_of(100), **asked)
    assert installation.ask(moved).ok
    assert record(installation, ZONE, 100).relay == 0
    installation.command("peer", "reserve", key_of(100), "--zone", ZONE, "--grant", RELAY)
    assert installation.ask(join(ZONE, 100, **asked)).notes == ()
    assert record(installation, ZONE, 100).relay == 51821
    assert operator(installation, "reserve", ZONE, 100, grants=[]).ok
    assert record(installation, ZONE, 100).relay == 0, "without the grant it stops in the same commit"


def test_a_fixed_endpoint_is_the_operators_word(installation: Installation, zone_of: AddZone) -> None:
    zone = zone_of("--member-fixed-endpoint", "no")
    asked: dict[str, Any] = {"endpoint": "192.0.2.66:51820", "fixed": True}
    assert "by its own word" in installation.ask(join(zone, 1, **asked)).notes[0]
    assert (record(installation, zone, 1).fixed, record(installation, zone, 1).endpoint) == (
        False,
        asked["endpoint"],
    )
    assert operator(installation, "reserve", zone, 1, grants=[ENDPOINT]).ok
    assert installation.ask(join(zone, 1, **asked)).ok
    assert record(installation, zone, 1).fixed


@pytest.mark.parametrize(
    "prefix", ["0.0.0.0/5", "8.0.0.0/7", "32.0.0.0/3", "8.8.8.8/32", "172.0.0.0/8", "2000::/3", "2a00::/12"]
)
def test_a_member_announces_no_network_of_the_internet(installation: Installation, prefix: str) -> None:
    reply = installation.ask(join(ZONE, 110, child_prefixes=[prefix]))
    assert (reply.ok, reply.code) == (False, "prefix-not-permitted")
    assert "have an operator reserve it" in reply.error


def test_an_operator_reserves_a_network_of_the_internet(installation: Installation) -> None:
    assert operator(installation, "reserve", ZONE, 111, child_prefixes=["8.8.8.0/24"]).ok
    reply = installation.ask(join(ZONE, 111, child_prefixes=["8.8.8.0/25", "192.168.77.0/24"]))
    assert reply.prefixes == ("8.8.8.0/24", "192.168.77.0/24")


def test_a_zone_may_let_members_announce_nothing(installation: Installation, zone_of: AddZone) -> None:
    zone = zone_of("--member-prefixes", "none")
    assert installation.ask(join(zone, 1, child_prefixes=["192.168.1.0/24"])).code == "prefix-not-permitted"
    assert installation.ask(join(zone, 1)).ok


def test_a_reservation_by_name_is_not_claimed_by_a_stranger_of_that_name(installation: Installation) -> None:
    reserved = operator(
        installation,
        "reserve",
        ZONE,
        None,
        name="db1",
        request_ip=["10.20.1.30"],
        child_prefixes=["172.20.1.0/24"],
    )
    assert reserved.state == "reserved"
    stranger = installation.ask(join(ZONE, 120, name="db1"))
    assert (stranger.name, stranger.prefixes) == ("db1-2", ())
    assert "10.20.1.30" not in stranger.addresses
    assert installation.ask(join(ZONE, 121, request_ip=["10.20.1.30"])).code == "address-taken"
    assert operator(installation, "reserve", ZONE, 122, name="db1").ok, "the operator names the host's key"
    host = installation.ask(join(ZONE, 122, name="db1"))
    assert (host.name, host.addresses[0], host.prefixes) == ("db1", "10.20.1.30", ("172.20.1.0/24",))


def test_made_up_keys_take_no_more_addresses_than_the_quota(
    installation: Installation, zone_of: AddZone
) -> None:
    """Who has the zone's password asks for 250 leases; a machine of the operator still gets one."""
    zone = zone_of("--member-leases", "4")
    client = installation.attacker_client(zone)
    replies = [client.ask(join(zone, number), ANSWER_SECONDS) for number in range(250)]
    assert Counter(reply.code for reply in replies) == {"": 4, "quota": 246}
    assert installation.ask(join(zone, 0)).ok, "who has a lease keeps it"
    assert operator(installation, "reserve", zone, 900, name="web1").ok
    assert installation.ask(join(zone, 900, name="web1")).name == "web1"
    held = installation.operator_client(zone).lease(key_of(900))
    assert held is not None and LEASE in held.grants
    assert installation.ask(join(zone, 901)).code == "quota"


def test_takeover_never_keeps_an_address_from_a_member_that_requests_it(
    installation: Installation, zone_of: AddZone
) -> None:
    zone = zone_of("--takeover", "never")
    [address, _] = installation.ask(join(zone, 1)).addresses
    assert installation.ask(join(zone, 2, request_ip=[address])).code == "address-taken"


@pytest.mark.parametrize(
    "endpoint",
    [
        "169.254.169.254:80",
        "255.255.255.255:51820",
        "240.0.0.1:51820",
        "127.0.0.1:6379",
        "224.0.0.1:51820",
        "0.0.0.0:51820",
        "[::1]:51820",
        "[fe80::1]:51820",
        "[ff02::1]:51820",
        "[::ffff:169.254.169.254]:80",
    ],
)
@pytest.mark.parametrize("op", ["join", "endpoint"])
def test_an_endpoint_that_is_no_machines_is_refused(
    installation: Installation, endpoint: str, op: str
) -> None:
    """The request is not built by an agent's library, which would refuse it."""
    request = replace(Request.validated(op, ZONE, key_of(130)), endpoint=endpoint)
    reply = installation.ask(request)
    assert not reply.ok
    assert "endpoint" in reply.error


def test_no_record_points_at_the_controller_or_into_the_mesh(installation: Installation) -> None:
    """The controller is this machine; a member names its addresses, and an address of the zone's pools."""
    known = installation_of(installation.server.address)
    hosts = [*known.controller, *known.broadcast, "10.20.7.7", "fd00:20::77"]
    for number, host in enumerate(hosts, start=140):
        reply = installation.ask(join(ZONE, number, endpoint=ip.join_endpoint(host, 51820)))
        assert reply.ok
        assert f"the endpoint address {host} is left out" in reply.notes[0]
        assert record(installation, ZONE, number).endpoint == ""


def test_a_member_that_runs_on_the_controller_is_granted_its_address(installation: Installation) -> None:
    for host in sorted(installation_of(installation.server.address).controller)[:1]:
        assert operator(installation, "reserve", ZONE, 170, grants=[ENDPOINT]).ok
        assert installation.ask(join(ZONE, 170, endpoint=ip.join_endpoint(host, 51820))).ok
        assert record(installation, ZONE, 170).endpoint == ip.join_endpoint(host, 51820)


def test_two_hundred_records_aim_at_one_address_no_more_than_the_bound(
    installation: Installation, zone_of: AddZone
) -> None:
    """Endpoints, local addresses and what members claim to observe all count."""
    zone, victim = zone_of("--records-per-address", "8"), "198.51.100.200"
    client = installation.attacker_client(zone)
    for number in range(200):
        endpoint, local = f"{victim}:{number + 1}", []
        if number % 2:
            endpoint, local = f"192.0.2.{number}:51820", [victim]
        reply = client.ask(join(zone, number, endpoint=endpoint, local=local), ANSWER_SECONDS)
        assert reply.ok
    observed = {key_of(number): f"{victim}:{number + 1}" for number in range(50)}
    client.submit(Request.validated("report", zone, key_of(199), observed=observed))
    assert client.ask(join(zone, 200), ANSWER_SECONDS).ok
    peers = installation.operator_client(zone).snapshot().peers.values()
    aimed = [peer for peer in peers if victim in f"{peer.endpoint} {peer.observed} {peer.local}"]
    assert len(peers) == 201
    assert len(aimed) == 8


def test_one_key_wakes_the_zone_no_more_often_than_its_rate(installation: Installation) -> None:
    """A member sends one change after another; each would be a commit that every agent reads."""
    client = installation.attacker_client(ZONE)
    replies = [
        client.ask(join(ZONE, 180, name=f"name-{number}"), ANSWER_SECONDS) for number in range(3 * BURST)
    ]
    refused = [reply for reply in replies if not reply.ok]
    assert {reply.code for reply in refused} == {"rate"}
    assert len(refused) >= BURST
    assert installation.ask(join(ZONE, 181)).ok, "another key is served"


def test_an_older_zone_says_how_to_close_it_and_takes_back_what_it_let_members_have(
    own_installation: Installation,
) -> None:
    """A zone whose stored policy knows none of the options behaves as before until an operator sets them."""
    meta = ZoneKeys(ZONE).meta
    own_installation.server.client().hset(meta, "policy", '{"takeover": "always", "quarantine": 3600}')
    own_installation.supervisor.kill()
    own_installation.supervisor.start()
    eventually(own_installation.is_serving, "the supervisor serves")
    asked: dict[str, Any] = {"endpoint": "192.0.2.1:51820", "relay": 51821, "fixed": True}
    reply = own_installation.ask(join(ZONE, 1, child_prefixes=["8.0.0.0/7"], **asked))
    assert (reply.ok, reply.notes) == (True, ())
    assert record(own_installation, ZONE, 1).relay == 51821
    [warning] = own_installation.api("GET", "/healthz").body["warnings"]
    assert f"close it with 'jaywalk-supervisor zone set {ZONE} " in warning
    assert warning in own_installation.log()
    own_installation.command(*warning.split("'")[1].split()[1:])
    assert own_installation.ask(join(ZONE, 2, **asked)).notes
    assert record(own_installation, ZONE, 2).relay == 0
    assert own_installation.ask(join(ZONE, 1, child_prefixes=["8.0.0.0/7"])).code == "prefix-not-permitted"


def test_an_admin_of_one_zone_gives_it_no_pool_of_the_internet(
    installation: Installation, zone_of: AddZone
) -> None:
    zone = zone_of()
    token = installation.token(f"admin-of-{zone}", "admin", zone)
    for pools in (["0.0.0.0/0"], ["8.0.0.0/7"], ["10.20.0.0/20", "44.0.0.0/8"]):
        answer = installation.api("PATCH", f"/zones/{zone}", token, {"cidr": pools})
        assert (answer.status, "outside the networks of this installation" in str(answer.body)) == (400, True)
    assert installation.api("PATCH", f"/zones/{zone}", token, {"cidr": ["10.20.0.0/16"]}).status == 200
    refused = installation.command("zone", "set", zone, "--cidr", "8.0.0.0/7", check=False)
    assert "outside the networks of this installation" in refused.stderr
    assert installation.command(
        "zone", "set", zone, "--cidr", "10.20.0.0/16", "--cidr", "44.0.0.0/24", "--pool-networks", "any"
    )
    answer = installation.api("PATCH", f"/zones/{zone}", token, {"cidr": ["10.20.0.0/16", "44.0.0.0/24"]})
    assert answer.status == 200, "what a zone has, it keeps"
    answer = installation.api("PATCH", f"/zones/{zone}", token, {"cidr": ["10.20.0.0/16", "44.0.0.0/23"]})
    assert answer.status == 400


def test_an_agent_takes_nothing_of_the_internet_from_a_stolen_controller(
    own_installation: Installation,
) -> None:
    """Who has the controller sets a pool and a prefix of a peer; the rest of the zone goes on."""
    first, second = own_installation.agents()
    eventually(lambda: second.key in first.peer_keys, "the agents know one another")
    pools = ("--cidr", POOLS[0], "--cidr", "4.0.0.0/7", "--pool-networks", "any")
    own_installation.command("zone", "set", ZONE, "--member-prefixes", "any", *pools)
    assert own_installation.ask(join(ZONE, 1, child_prefixes=["8.8.8.8/32", "172.20.9.0/24"])).ok
    expected = frozenset({"10.20.0.3/32", "fd00:20::3/128", "172.20.9.0/24"})
    eventually(lambda: first.allowed_ips.get(key_of(1)) == expected, "the peer has the rest of its record")
    assert second.key in first.peer_keys
    assert "172.20.9.0/24" in first.routes
    assert not {"4.0.0.0/7", "8.8.8.8"} & first.routes
    for sentence in ("the pool 4.0.0.0/7 is left out", f"8.8.8.8/32 of peer {join(ZONE, 1).name}"):
        eventually(lambda text=sentence: text in first.log, f"the log says that {sentence}")
    assert "outside the networks that this node accepts" in first.log
