# SPDX-License-Identifier: GPL-3.0-or-later
"""The Redis users of the served zones: the one with which nodes enrol, and one of each node.

They are derived state, which a supervisor writes when it opens a zone and whenever the server lost them.  A
node's user is written before the reply to its join can be read, and removed with its lease.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from contextlib import suppress

import redis

from jaywalk.controller.address import agent_user, node_user
from jaywalk.controller.errors import is_full
from jaywalk.core.errors import InvalidValue
from jaywalk.zone.redis_keys import NODE_USERS, ZoneKeys

from ..possession.keyring import Keyring
from ..state.zone_state import ZoneState
from ..store import node_users, redis_users
from ..store.acl import password_hash, write_user
from ..store.store import Store

log = logging.getLogger(__name__)

# Interval of the search for zones whose users a server lost while the connection stayed.
CHECK_SECONDS = 10.0
# Limit of zones that are checked at once.
MAX_CHECKED = 100


class ZoneUsers:
    """Writes the users of the zones of one session; ``default_digest`` is for zones without a password."""

    def __init__(self, keyring: Callable[[], Keyring], default_digest: str) -> None:
        self._keyring = keyring
        self._default_digest = default_digest
        self._store: Store | None = None
        self._everywhere: set[str] = set()
        self._anywhere: set[str] = set()
        self._records: dict[str, dict[str, str]] = {}
        self._written: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._has_agent_user: set[str] = set()
        self._check_at = 0.0

    def open(self, store: Store, state: ZoneState) -> None:
        """Writes the users of a zone that the server lacks, and removes those of nodes without a lease."""
        if self._store is not store:
            self._begin(store)
        self._write_zone(store, state, self._everywhere, self._anywhere)

    def rewrite(self, store: Store, state: ZoneState) -> None:
        """Writes all users of a zone again, since the server lost them."""
        self._write_zone(store, state, (), ())

    def refresh(self, store: Store, states: Mapping[str, ZoneState]) -> None:
        """Follows changes of policies and of the supervisors' keys, and restores users that a server lost."""
        for zone in self._written.keys() - states.keys():
            self._forget(zone)
        for zone, state in states.items():
            if self._written.get(zone) != self._wanted(state):
                self.rewrite(store, state)
        if time.monotonic() >= self._check_at:
            self._check_at = time.monotonic() + CHECK_SECONDS
            for zone in sorted(self._has_agent_user & states.keys())[:MAX_CHECKED]:
                if _is_lost(store, agent_user(zone)):
                    log.warning("the controller lost the users of zone %s: they are written again", zone)
                    self.rewrite(store, states[zone])

    def admit(self, store: Store, state: ZoneState, keys: Iterable[str]) -> dict[str, str]:
        """Writes the users of nodes that joined with a proof; returns the records to commit."""
        if not store.makes_users:
            return {}
        zone, known = state.zone.name, self._records.get(state.zone.name, {})
        new = {key: self._record(zone, key) for key in keys if self._is_outdated(known.get(key, ""))}
        if new:
            try:
                node_users.write(store, zone, new)
            except redis.ResponseError as error:
                log.warning(
                    "the controller refuses to make users (%s): nodes log in with their zone's password",
                    error,
                )
                store.makes_users = False
                return {}
        return new

    def withdraw(self, store: Store, state: ZoneState, keys: Iterable[str]) -> None:
        """Removes the users of those ``keys`` that got no lease, since their joins were not committed."""
        gone = [key for key in keys if key not in state.leases]
        if gone and store.makes_users:
            node_users.remove(store, state.zone.name, gone)

    def committed(self, state: ZoneState, records: Mapping[str, str], changed: Iterable[str]) -> None:
        """Records what a commit stored, and forgets the ``changed`` keys that have no lease any more."""
        known = self._records.setdefault(state.zone.name, {})
        known.update(records)
        for key in changed:
            if key not in state.leases:
                known.pop(key, None)

    def _begin(self, store: Store) -> None:
        """Finds out at the start of a session whether the server lets us make users, and which it has."""
        self._store, self._everywhere, self._anywhere = store, set(), set()
        store.makes_users = bool(self._keyring().pairs) and redis_users.may_make_users(store)
        if store.makes_users:
            with suppress(redis.ResponseError):
                self._everywhere, self._anywhere = redis_users.user_names(store)

    def _write_zone(
        self, store: Store, state: ZoneState, existing: Collection[str], anywhere: Collection[str]
    ) -> None:
        """Writes the users that are not among the ``existing`` ones, and removes surplus ones."""
        zone = state.zone.name
        self._write_mark(store, zone)
        written = write_user(store, zone, self._default_digest)
        (self._has_agent_user.add if written else self._has_agent_user.discard)(zone)
        if store.makes_users:
            users = self._write_nodes(store, state, existing)
            if surplus := node_users.of_zone(anywhere, zone) - users:
                redis_users.remove_users(store, surplus)
        self._written[zone] = self._wanted(state)

    def _write_nodes(self, store: Store, state: ZoneState, existing: Collection[str]) -> Set[str]:
        """Writes the users of the zone's nodes that lack one; returns the users that the zone has then."""
        zone, before = state.zone.name, node_users.read(store, state.zone.name)
        proven = {key for key, lease in state.leases.items() if lease.proven}
        keys = ((before.keys() & state.leases.keys()) | proven) - state.blocked
        after = {
            key: self._record(zone, key) if self._is_outdated(before.get(key, "")) else before[key]
            for key in sorted(keys)
        }
        changed = {key: record for key, record in after.items() if before.get(key) != record}
        users = {node_user(zone, key): key for key in after}
        lost = {key: after[key] for user, key in users.items() if user not in existing}
        node_users.write(store, zone, lost | changed)
        node_users.store_records(store, zone, changed, before.keys() - after.keys())
        redis_users.close_connections(
            store, [node_user(zone, key) for key in node_users.lost_a_password(before, changed)]
        )
        self._records[zone] = after
        return users.keys()

    def _write_mark(self, store: Store, zone: str) -> None:
        """Says in the zone's meta data whether nodes have users of their own."""
        name = ZoneKeys(zone).meta
        try:
            if store.makes_users:
                store.redis.hset(name, NODE_USERS, "1")
            else:
                store.redis.hdel(name, NODE_USERS)
        except redis.ResponseError as error:
            if not is_full(error):
                raise

    def _record(self, zone: str, key: str) -> str:
        """Returns the record of a node's passwords; empty for a key that can have no secret."""
        keyring, digests = self._keyring(), {}
        for pair in keyring.pairs:
            with suppress(InvalidValue):
                secret = keyring.secret(pair.id, key)
                digests[pair.id] = password_hash(secret.redis_password(zone)) if secret else ""
        return node_users.record_of(digests)

    def _is_outdated(self, record: str) -> bool:
        return list(node_users.digests_of(record)) != [pair.id for pair in self._keyring().pairs]

    def _wanted(self, state: ZoneState) -> tuple[str, tuple[str, ...]]:
        return state.zone.policy.proof, self._keyring().public_keys

    def _forget(self, zone: str) -> None:
        self._written.pop(zone, None)
        self._records.pop(zone, None)
        self._has_agent_user.discard(zone)


def _is_lost(store: Store, user: str) -> bool:
    """Whether a server does not know ``user``; False if the server does not say."""
    with suppress(redis.ResponseError):
        return None in store.run_on_all_nodes("ACL", "GETUSER", user)
    return False
