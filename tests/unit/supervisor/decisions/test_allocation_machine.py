# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares the supervisor's decisions with :mod:`.allocation_model` for random sequences of requests."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from jaywalk.core.errors import InvalidValue
from jaywalk.zone.models import Zone, reservation_key
from jaywalk.zone.patch import ZonePatch
from jaywalk.zone.policy import Policy
from jaywalk.zone.requests import Reply, Request
from jaywalk_supervisor.admin import zones
from jaywalk_supervisor.decisions import last_seen
from jaywalk_supervisor.decisions.agent_requests import decide
from jaywalk_supervisor.state.zone_state import ZoneState
from tests.supervisor_support import key_of
from tests.unit.supervisor.decisions.allocation_model import Model, Refused, waiting

STALE_AFTER = 100
KEYS = [key_of(number) for number in range(6)]
NAMES = ["db1", "db2", "web"]
POOLS = [
    ["10.20.0.0/30"],
    ["10.20.0.0/29"],
    ["10.20.0.0/31", "10.20.0.8/31"],
    ["10.20.0.0/30", "fd00:20::/126"],
    ["10.20.0.0/29", "fd00:20::/64"],
    ["fd00:20::/125"],
]
# Parts of the first pool of each choice of pools.
EXCLUDED = {
    "10.20.0.0/30": ["10.20.0.1", "10.20.0.0/31", "10.20.0.0/30"],
    "10.20.0.0/29": ["10.20.0.1", "10.20.0.2/31", "10.20.0.4/30"],
    "10.20.0.0/31": ["10.20.0.0"],
    "fd00:20::/125": ["fd00:20::1", "fd00:20::4/126"],
}
# What an operator may make of a zone's pools while it runs.
OTHER_POOLS = [
    *POOLS,
    ["10.20.0.0/28"],
    ["10.20.0.0/29", "10.30.0.0/30"],
    ["10.20.0.0/28", "fd00:20::/125"],
    ["fd00:20::/124", "fd00:30::/127"],
]
keys = st.sampled_from(KEYS)
names = st.sampled_from(NAMES)
wishes = st.lists(
    st.sampled_from(
        [
            *(f"10.20.0.{number}" for number in range(1, 10)),
            "fd00:20::1",
            "fd00:20::2",
            "fd00:20::7",
            "192.0.2.1",
        ]
    ),
    max_size=2,
    unique=True,
)
prefixes = st.lists(
    st.sampled_from(
        [
            "172.20.0.0/16",
            "172.20.1.0/24",
            "172.20.1.128/25",
            "172.21.0.0/16",
            "fd99::/48",
            "fd99:0:0:1::/64",
            "10.0.0.0/8",
        ]
    ),
    max_size=3,
    unique=True,
)


def versions(pools: list[str]) -> set[int]:
    return {6 if ":" in pool else 4 for pool in pools}


class IpamMachine(RuleBasedStateMachine):
    """Each rule uses both; both must give the same answer and have the same leases afterwards."""

    @initialize(
        pools=st.sampled_from(POOLS),
        takeover=st.sampled_from(["always", "stale", "never"]),
        quarantine=st.sampled_from([0, 50, 3600]),
        data=st.data(),
    )
    def start(self, pools: list[str], takeover: str, quarantine: int, data: st.DataObject) -> None:
        excluded = data.draw(st.lists(st.sampled_from(EXCLUDED[pools[0]]), max_size=2))
        policy = Policy.parse(
            takeover=takeover,
            quarantine=quarantine,
            excluded=excluded,
            stale_after=STALE_AFTER,
            member_claims=True,
            proof="optional",
        )
        self.state = ZoneState(Zone.validated("zone-blue", pools, "", policy), 1000, 0)
        self.follower = ZoneState(self.state.zone, 1000, 0)
        self.model = Model(pools, takeover, quarantine, excluded, STALE_AFTER)
        self.seen: dict[str, int] = {}
        self.now = 1_000_000.0
        self.seq = 0

    def carry_out(self, request: Request) -> Reply:
        self.state.last_seen_at = self.seen
        decision = decide(self.state, request, self.now)
        for change in decision.changes:
            self.state.apply(change, decision.peer)
            self.follower.apply(type(change).from_wire(json.loads(change.to_wire())))
        self.state.rev += bool(decision.changes)
        assert bool(decision.changes) == decision.reply.changed
        again = decide(self.state, request, self.now)
        assert not again.changes, "a repeat changes nothing"
        self.hear(request)
        return decision.reply

    def hear(self, request: Request) -> None:
        """Records last-seen times as the committer does, for keys that have a lease."""
        heard, _ = last_seen.partition_senders(self.state, [request], self.now)
        self.seen = {key: at for key, at in {**self.seen, **heard}.items() if key in self.state.leases}

    def ask(self, op: str, key: str, **fields: object) -> Reply:
        self.seq += 1
        self.now += 1
        request = Request.validated(op, "zone-blue", key, **fields)  # type: ignore[arg-type]
        return self.carry_out(Request(**{**request.__dict__, "seq": int(self.now * 1_000_000) + self.seq}))

    def both(self, op: str, key: str, name: str, wished: list[str], announced: list[str]) -> None:
        reply = self.ask(op, key, name=name, request_ip=wished, child_prefixes=announced)
        code = ""
        try:
            getattr(self.model, op)(key, name, wished, announced, self.now)
        except Refused as refused:
            code = str(refused)
        assert (reply.ok, reply.code) == (not code, code)

    @rule(key=keys, name=names, wished=wishes, announced=prefixes)
    def join(self, key: str, name: str, wished: list[str], announced: list[str]) -> None:
        self.both("join", key, name, wished, announced)
        self.model.hear(key, self.now)

    @rule(key=keys, name=names)
    def join_without_a_wish(self, key: str, name: str) -> None:
        self.both("join", key, name, [], [])
        self.model.hear(key, self.now)

    @rule(key=keys, name=names, former=wishes)
    def join_with_what_it_had(self, key: str, name: str, former: list[str]) -> None:
        reply = self.ask("join", key, name=name, former_ip=former)
        code = ""
        try:
            self.model.join(key, name, [], [], self.now, former)
        except Refused as refused:
            code = str(refused)
        assert (reply.ok, reply.code) == (not code, code)
        self.model.hear(key, self.now)

    @rule(data=st.data())
    def pools_change(self, data: st.DataObject) -> None:
        others = [each for each in OTHER_POOLS if versions(each) == set(self.model.versions())]
        pools = data.draw(st.sampled_from(others))
        patch = ZonePatch(
            cidr=[pool for pool in pools if "." in pool], cidr6=[pool for pool in pools if ":" in pool]
        )
        try:
            desired = patch.apply(self.state.zone)
            zones.check_pools(self.state, desired)
        except InvalidValue:
            assert not self.model.accepts(pools)
            return
        assert self.model.accepts(pools)
        self.reload(desired)

    @rule(
        takeover=st.sampled_from(["always", "stale", "never"]),
        quarantine=st.sampled_from([0, 50, 3600]),
        stale_after=st.sampled_from([0, STALE_AFTER]),
    )
    def policy_changes(self, takeover: str, quarantine: int, stale_after: int) -> None:
        patch = ZonePatch(takeover=takeover, quarantine=str(quarantine), stale_after=str(stale_after))
        self.reload(patch.apply(self.state.zone))
        self.model.takeover, self.model.quarantine = takeover, quarantine
        self.model.stale_after = stale_after

    def reload(self, zone: Zone) -> None:
        """Supervisors do so after a zone was changed."""
        for name in ("state", "follower"):
            before: ZoneState = getattr(self, name)
            read = ZoneState(zone, before.epoch + 1, before.rev + 1)
            for key, lease in before.leases.items():
                read.put(key, before.peers.get(key), lease)
            setattr(self, name, read)

    @rule(key=keys)
    def leave(self, key: str) -> None:
        assert self.ask("leave", key).ok
        self.model.leave(key, self.now)
        self.model.hear(key, self.now)

    @rule(key=keys)
    def report(self, key: str) -> None:
        self.hear(Request.validated("report", "zone-blue", key))
        if key in self.state.peers:
            self.model.hear(key, self.now)

    @rule(key=keys, name=st.sampled_from(["", *NAMES]), wished=wishes, kept=prefixes)
    def reserve(self, key: str, name: str, wished: list[str], kept: list[str]) -> None:
        self.both("reserve", key, name, wished, kept)

    @rule(name=names, wished=wishes, kept=prefixes)
    def reserve_by_name(self, name: str, wished: list[str], kept: list[str]) -> None:
        self.both("reserve", "", name, wished, kept)

    @rule(key=keys, name=names, wished=wishes, kept=prefixes)
    def rekey(self, key: str, name: str, wished: list[str], kept: list[str]) -> None:
        self.both("rekey", key, name, wished, kept)

    @rule(key=keys, given_back=prefixes)
    def release(self, key: str, given_back: list[str]) -> None:
        assert self.ask("release", key, child_prefixes=given_back).ok
        self.model.release(key, "", given_back)

    @rule(name=names, given_back=prefixes)
    def release_by_name(self, name: str, given_back: list[str]) -> None:
        assert self.ask("release", "", name=name, child_prefixes=given_back).ok
        self.model.release("", name, given_back)

    @rule(seconds=st.sampled_from([10, 60, 4000]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def both_hold_the_same(self) -> None:
        if not hasattr(self, "model"):
            return
        spelled = {waiting(name): reservation_key(name) for name in NAMES}
        expected = {
            spelled.get(key, key): (
                sorted(held.addresses.values()),
                sorted(held.prefixes),
                sorted(held.kept),
                held.host,
                held.state,
            )
            for key, held in self.model.held.items()
        }
        assert table(self.state) == expected
        assert table(self.follower) == expected, "who follows the log stands where it leads"
        for key, held in self.model.held.items():
            lease = self.state.leases[spelled.get(key, key)]
            assert held.name in ("", lease.name, lease.requested_name)

    @invariant()
    def no_two_in_the_mesh_are_called_alike(self) -> None:
        if not hasattr(self, "model"):
            return
        for state in (self.state, self.follower):
            names = [peer.name for peer in state.peers.values()]
            assert len(names) == len(set(names))
            for key, lease in state.leases.items():
                others = {peer.name for peer in state.peers.values() if peer.key != key}
                assert lease.host not in others or lease.state == "reserved"

    @invariant()
    def nothing_is_given_twice(self) -> None:
        if not hasattr(self, "model"):
            return
        addresses = [each for lease in self.state.leases.values() for each in lease.addresses]
        assert len(addresses) == len(set(addresses))
        assert all(len(lease.addresses) == len(self.model.versions()) for lease in self.state.leases.values())
        active = {key for key, lease in self.state.leases.items() if lease.state == "active"}
        assert active == set(self.state.peers)
        for pool in self.state.pools:
            held = {pool.text(number): key for number, key in pool.owners.items()}
            assert held == {
                address: lease.key
                for lease in self.state.leases.values()
                for address in lease.addresses
                if address in pool
            }


def table(state: ZoneState) -> dict[str, tuple[object, ...]]:
    """Returns the lease of each key in plain values."""
    return {
        lease.key: (
            sorted(lease.addresses),
            sorted(lease.prefixes),
            sorted(lease.reserved_prefixes),
            lease.host,
            lease.state,
        )
        for lease in state.leases.values()
    }


IpamMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestIpam = IpamMachine.TestCase
