# SPDX-License-Identifier: GPL-3.0-or-later
"""The Redis users of zones' agents: derived state, which is written again whenever Redis lost it.

Redis neither replicates its users nor persists those created at run time.  So each supervisor writes them
when it connects to a server that was restarted, and when a zone is created.
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress

import redis

from jaywalk.controller.address import agent_user
from jaywalk.core.errors import InvalidValue
from jaywalk.zone.policy import Policy
from jaywalk.zone.redis_keys import HEAD_FIELDS, NODE_USERS, ZoneKeys

from . import redis_users
from .audit import ZONE_RECORD, AuditEntry
from .rights import agent_rules
from .store import Store

log = logging.getLogger(__name__)

# Field of ``{zone}:meta`` that marks for good a zone which once had an agents' password of its own.
SHUT_TO_DEFAULT = "own_password"


def password_hash(password: str) -> str:
    """Returns the SHA-256 of a password in hex, as ``ACL SETUSER`` expects it after a ``#``."""
    return hashlib.sha256(password.encode()).hexdigest()


def enrols_only(store: Store, zone: str) -> bool:
    """Whether the zone's password only enrols: its members have their own users, and prove their keys.

    Members of a zone that accepts requests without a proof may be of the version before, which logs in with
    the zone's password.
    """
    policy, marked = store.redis.hmget(ZoneKeys(zone).meta, "policy", NODE_USERS)
    with suppress(InvalidValue):
        return bool(marked) and Policy.from_wire(policy or "").proof == "required"
    return False


def set_password(store: Store, zone: str, digest: str) -> bool:
    """Stores the hash of the zone's agent password; returns whether it changed.

    The zone's revision advances with it, so that the later of two copies of the zone can be determined.  The
    mark ``own_password`` stays in the meta data: see :func:`write_user`.
    """
    keys = ZoneKeys(zone)
    if store.redis.hget(keys.credentials, "agent") == digest:
        return False
    store.redis.hset(keys.credentials, "agent", digest)
    while True:
        at = [field or "" for field in store.redis.hmget(keys.meta, *HEAD_FIELDS)]
        entry = AuditEntry(store.author, "password", ZONE_RECORD)
        if store.change(zone, at, {SHUT_TO_DEFAULT: "1"}, entry=entry) != "CONFLICT":
            return True


def write_user(store: Store, zone: str, default_digest: str = "") -> bool:
    """Creates the zone's agent user, with ``default_digest`` if the zone never had a password of its own.

    A zone that lost the hash of its own password keeps the server's user, if any, so that no other password
    grants access.  Returns False if the server refuses: many managed ones do, and there the operator creates
    the user.
    """
    keys = ZoneKeys(zone)
    digest = store.redis.hget(keys.credentials, "agent")
    if not digest and store.redis.hexists(keys.meta, SHUT_TO_DEFAULT):
        return False
    digest = digest or default_digest
    if not digest:
        log.info("zone %s has no agents' password: nobody can join it until it gets one", zone)
        return redis_users.remove_users(store, [agent_user(zone)])
    try:
        rules = agent_rules(zone, digest, store.version, enrols_only(store, zone))
        redis_users.set_user(store, agent_user(zone), rules)
    except redis.ResponseError as error:
        log.warning(
            "the controller refuses to create its user %s (%s): create it by hand, or agents cannot log in",
            agent_user(zone),
            error,
        )
        return False
    return True


def password_lost(zone: str) -> str:
    """Describes a zone that :func:`write_user` leaves locked, and the remedy."""
    return (
        f"zone {zone} had an agents' password of its own, which the controller lost; the default password "
        "does not apply to it, so that its agents cannot log in: set it again, by the play or with "
        f"'jaywalk-supervisor zone set {zone} --agent-password-file FILE'"
    )


def check_replay(store: Store) -> None:
    """Warns of a Redis that would lose all commits at its next start.

    Redis (to 8.2, issue 14541) and Valkey (to 9.0, issue 3983) replay the append-only file as the default
    user, and silently leave out every transaction and script where that user has no rights.
    """
    answers = store.run_on_all_nodes("ACL", "DRYRUN", "default", "XADD", "key", "*", "field", "value")
    if set(answers) != {"OK"} and any(info.get("aof_enabled") for info in store.info("persistence")):
        log.error(
            "the controller's default user has no rights, and Redis may then lose all commits at a restart: "
            "write 'user default off resetpass ~* &* +@all' into its ACL file (nobody can log in as it)"
        )
