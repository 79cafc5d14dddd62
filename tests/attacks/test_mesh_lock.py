# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever stole controller and supervisor adds nothing to a zone under a mesh lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from jaywalk.trust.lock_keys import LockKey
from jaywalk.trust.statements import NodeStatement, ZoneStatement
from jaywalk.zone.events import Change
from jaywalk.zone.models import Peer, Zone
from jaywalk_supervisor.admin.zones import update_zone
from jaywalk_supervisor.state.zone_state import ZoneState
from jaywalk_supervisor.store.store import Store
from tests.attacks.installation import POOLS, Installation
from tests.chaos.real_agents import RealAgent, may_run
from tests.redis_server import RedisServer
from tests.strategies import key
from tests.waiting import eventually

ZONE = "zone-blue"
META = f"{{{ZONE}}}:meta"
THIEF = LockKey.generate()
pytestmark = [pytest.mark.wireguard, pytest.mark.skipif(not may_run(), reason="needs root on Linux")]


class LockedZone:
    """Two real agents that pin a lock key, in a zone whose nodes an operator signed, and a thief."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.file = str(installation.folder / "lock.key")
        public = installation.command("lock", "keygen", self.file).stdout.strip()
        self.agents = installation.agents(ZONE, JAYWALK_LOCK_KEYS=public)
        self.store = Store.open(installation.server.address, "thief")
        self.client = installation.operator_client(ZONE)
        eventually(lambda: len(self.client.leases()) == 2, "both nodes have leases")
        eventually(lambda: all("sign" in agent.error for agent in self.agents), "both say what to do")
        assert not any(agent.allowed_ips for agent in self.agents)
        self.sign("--all")
        eventually(self.is_connected, "the signed nodes reach each other")

    def sign(self, *words: str) -> None:
        self.installation.command("lock", "sign", ZONE, *words, "--lock-key-file", self.file)

    def record(self, agent: RealAgent) -> Peer:
        return self.record_of(agent.key)

    def record_of(self, public_key: str) -> Peer:
        return self.client.snapshot().peers[public_key]

    def is_connected(self) -> bool:
        first, second = self.agents
        peers = self.client.snapshot().peers
        return (
            len(peers) >= 2
            and first.reaches(peers[second.key].addresses[0])
            and second.reaches(peers[first.key].addresses[0])
        )

    def commit(self, *peers: Peer) -> None:
        """What a stolen supervisor does: it commits any records, with an event."""

        def changes(state: ZoneState) -> list[Change]:
            made = [Change("+", peer.key, peer._replace(rev=state.rev + 1).to_wire()) for peer in peers]
            for change in made:
                state.apply(change)
            return made

        self.store.commit_all(ZONE, changes)

    def change_zone(self, desired: Callable[[Zone], Zone]) -> None:
        """What a stolen supervisor does to the zone itself; all agents read it again."""
        update_zone(self.store, ZONE, lambda state: desired(state.zone))


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LockedZone]:
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer())
        installation = Installation(server, tmp_path_factory.mktemp("locked"), stack)
        installation.start()
        made = LockedZone(installation)
        yield made
        made.store.close()


def assert_not_taken(zone: LockedZone, keys: set[str], before: list[dict[str, frozenset[str]]]) -> None:
    """Each agent that sees one of ``keys`` says so, no interface changed, and the tunnels go on."""
    for agent in zone.agents:
        expected = keys - {agent.key} or keys
        eventually(
            lambda agent=agent, expected=expected: expected <= agent.rejected.keys(),
            f"{agent.name} says that it does not take the record",
        )
    assert [agent.allowed_ips for agent in zone.agents] == before
    assert zone.is_connected()


def interfaces(zone: LockedZone) -> list[dict[str, frozenset[str]]]:
    return [agent.allowed_ips for agent in zone.agents]


def test_a_stolen_supervisor_adds_no_key_signed_by_nobody_or_by_another_key(zone: LockedZone) -> None:
    before = interfaces(zone)
    bare = Peer(key(71), "evil", ("10.20.0.71",), endpoint="198.51.100.9:51820")
    statement = NodeStatement(ZONE, key(72), "worse", ("10.20.0.72",), serial=2**40)
    forged = Peer(key(72), "worse", ("10.20.0.72",), signed=THIEF.sign(statement))
    zone.commit(bare, forged)
    assert_not_taken(zone, {bare.key, forged.key}, before)


@pytest.mark.parametrize(
    ("what", "stolen"),
    [
        ("prefix", lambda own, _other: own._replace(prefixes=("8.0.0.0/7",))),
        ("relay", lambda own, _other: own._replace(relay=51821)),
        ("address", lambda own, other: own._replace(addresses=other.addresses)),
        ("name", lambda own, _other: own._replace(name="controller")),
        ("unsigned", lambda own, _other: own._replace(signed=None, endpoint="198.51.100.9:51820")),
    ],
)
def test_a_stolen_supervisor_changes_no_signed_node(
    zone: LockedZone, what: str, stolen: Callable[[Peer, Peer], Peer]
) -> None:
    """Its prefixes, its being a relay, its address, its name; nor does it take the signature away."""
    before = interfaces(zone)
    own, other = (zone.record(agent) for agent in zone.agents)
    try:
        zone.commit(stolen(own, other))
        assert_not_taken(zone, {own.key}, before)
    finally:
        zone.commit(own, other)
    eventually(lambda: own.key not in zone.agents[1].rejected, f"the {what} is as it was")


def test_a_stolen_supervisor_changes_no_pool(zone: LockedZone) -> None:
    before = interfaces(zone)
    pools = ("8.0.0.0/7", *POOLS)
    statement = ZoneStatement(ZONE, pools, (THIEF.public,), serial=2**40)
    good = zone.store.redis.hget(META, "lock")
    for signed in (None, THIEF.sign(statement).to_text()):
        zone.change_zone(lambda known, text=signed: replace(known, pools=pools, signed=text or known.signed))
        for agent in zone.agents:
            eventually(lambda agent=agent: "sign" in agent.error, f"{agent.name} says what is not signed")
        assert interfaces(zone) == before
        assert zone.is_connected()
    zone.change_zone(lambda known: replace(known, pools=POOLS, signed=str(good)))


def test_a_stolen_controller_brings_back_no_revoked_node_and_a_restart_forgets_nothing(
    zone: LockedZone,
) -> None:
    """It puts back what the operator signed before: the node's record and the zone's statement."""
    gone = Peer(key(73), "gone", ("10.20.0.73",), endpoint="198.51.100.9:51820")
    zone.commit(gone)
    zone.sign("gone")
    for agent in zone.agents:
        eventually(lambda agent=agent: gone.key in agent.allowed_ips, "the third node is a peer")
    old_record, old_statement = zone.record_of(gone.key), zone.store.redis.hget(META, "lock")
    zone.installation.command("lock", "revoke", ZONE, gone.key, "--lock-key-file", zone.file)
    for agent in zone.agents:
        eventually(lambda agent=agent: gone.key not in agent.allowed_ips, "the revoked node is no peer")
    before = interfaces(zone)
    zone.change_zone(lambda known: replace(known, signed=str(old_statement)))
    zone.commit(old_record)
    for agent in zone.agents:
        agent.kill()
    for agent in zone.agents:
        eventually(lambda agent=agent: "older" in agent.error, f"{agent.name} refuses the old statement")
        eventually(lambda agent=agent: gone.key in agent.rejected, f"{agent.name} refuses the old record")
    assert interfaces(zone) == before
    assert zone.is_connected()
