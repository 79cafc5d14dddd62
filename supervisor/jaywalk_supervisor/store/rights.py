# SPDX-License-Identifier: GPL-3.0-or-later
"""The rights of a zone's Redis users, as rules of ``ACL SETUSER``; does not use Redis."""

from __future__ import annotations

from collections.abc import Sequence

from jaywalk.zone.redis_keys import ZoneKeys

# Older servers refuse a rule about an unknown subcommand.
SETINFO_SINCE = (7, 2)
# The rule "reset" before them also removes all commands; "-@all" would take three times as long as all rules.
# Of a node that enrols: it appends its join, and reads the zone's meta data and its own reply.
ENROLMENT_COMMANDS = (
    *("+hello", "+auth", "+ping", "+client|setname", "+client|id"),
    *("+xread", "+hget", "+hmget", "+hgetall", "+rpush", "+time"),
)
# Of a member, which also reads the zone's log and peers.
MEMBER_COMMANDS = (*ENROLMENT_COMMANDS, "+xrange", "+hscan", "+hlen")
# Characters of a nonce: it names the stream of the reply to one request.
NONCE_LENGTH = 32


def with_setinfo(commands: Sequence[str], version: tuple[int, ...]) -> list[str]:
    """Returns the rules ``commands``, and the one that newer servers have for what redis-py sends."""
    return [*commands, "+client|setinfo"] if version >= SETINFO_SINCE else list(commands)


def agent_rules(zone: str, digest: str, version: tuple[int, ...], enrols_only: bool = False) -> list[str]:
    """Returns the rights of the holders of a zone's password.

    They write to its inbox, and read its log, peers, meta data and answers.  With ``enrols_only``, since each
    member has a user of its own, they read the meta data, and the answer of which they know the nonce.
    """
    keys = ZoneKeys(zone)
    readable = [keys.events, keys.peers, keys.meta, keys.reply("*")]
    if enrols_only:
        readable = [keys.meta, keys.reply("?" * NONCE_LENGTH)]
    commands = ENROLMENT_COMMANDS if enrols_only else MEMBER_COMMANDS
    return [
        *("reset", "on", f"#{digest}", f"%W~{keys.inbox}"),
        *(f"%R~{key}" for key in readable),
        *with_setinfo(commands, version),
    ]
