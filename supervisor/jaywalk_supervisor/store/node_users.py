# SPDX-License-Identifier: GPL-3.0-or-later
"""The Redis user of each node: derived from the keys in ``{zone}:creds``, and written again where it is lost.

A node's password follows from the secret that it shares with the supervisors, so that nobody issues it.  The
field of a node's key in ``{zone}:creds`` holds ``KEY-ID:SHA-256`` for each valid key of the supervisors.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from jaywalk.controller.address import node_user
from jaywalk.zone.redis_keys import ZoneKeys

from . import redis_users
from .connection import Connection
from .rights import MEMBER_COMMANDS, with_setinfo

# The field of ``{zone}:creds`` that is no node's.
ZONE_FIELD = "agent"
_NODE_USER = re.compile(r"node-(.+)-[0-9a-f]{24}")


def record_of(digests: Mapping[str, str]) -> str:
    """Returns the record of a node's passwords: ``digests`` maps each supervisors' key id to a SHA-256."""
    return " ".join(f"{kid}:{digest}" for kid, digest in digests.items())


def digests_of(record: str) -> dict[str, str]:
    """Returns the SHA-256 of a node's password for each key id in its record."""
    pairs = (part.partition(":") for part in record.split())
    return {kid: digest for kid, _colon, digest in pairs if re.fullmatch("[0-9a-f]{64}", digest)}


def rules(zone: str, record: str, version: tuple[int, ...]) -> list[str]:
    """Returns the rights of a node: append to its zone's inbox; read its log, peers, meta and answers."""
    keys = ZoneKeys(zone)
    readable = (keys.events, keys.peers, keys.meta, keys.reply("*"))
    return [
        *("reset", "on"),
        *(f"#{digest}" for digest in digests_of(record).values()),
        f"%W~{keys.inbox}",
        *(f"%R~{key}" for key in readable),
        *with_setinfo(MEMBER_COMMANDS, version),
    ]


def read(store: Connection, zone: str) -> dict[str, str]:
    """Returns the records of a zone's nodes by key."""
    records: dict[str, str] = store.redis.hgetall(ZoneKeys(zone).credentials)
    return {key: record for key, record in records.items() if key != ZONE_FIELD}


def store_records(store: Connection, zone: str, records: Mapping[str, str], gone: Iterable[str] = ()) -> None:
    """Writes records outside of a commit, and removes those of the keys ``gone``."""
    name = ZoneKeys(zone).credentials
    if records:
        store.redis.hset(name, mapping=records)
    if lost := list(gone):
        store.redis.hdel(name, *lost)


def write(store: Connection, zone: str, records: Mapping[str, str]) -> None:
    """Writes the users of ``records``; raises redis-py's ``ResponseError`` if the server refuses."""
    commands = [
        ("ACL", "SETUSER", node_user(zone, key), *rules(zone, record, store.version))
        for key, record in records.items()
    ]
    for at in range(0, len(commands), redis_users.PAGE):
        store.pipeline_on_all_nodes(commands[at : at + redis_users.PAGE])


def remove(store: Connection, zone: str, keys: Collection[str]) -> None:
    """Removes the users of ``keys``, and closes their connections."""
    redis_users.remove_users(store, {node_user(zone, key) for key in keys})


def of_zone(names: Iterable[str], zone: str) -> set[str]:
    """Returns those of the users ``names`` that are nodes' of ``zone``."""
    matches = ((name, _NODE_USER.fullmatch(name)) for name in names)
    return {name for name, match in matches if match is not None and match[1] == zone}


def lost_a_password(before: Mapping[str, str], after: Mapping[str, str]) -> Sequence[str]:
    """Returns the keys of ``after`` that had a password in ``before`` which is not valid any more."""
    return [
        key
        for key, record in after.items()
        if set(digests_of(before.get(key, "")).values()) - set(digests_of(record).values())
    ]
