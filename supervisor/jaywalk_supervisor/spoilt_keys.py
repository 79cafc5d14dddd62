# SPDX-License-Identifier: GPL-3.0-or-later
"""Redis keys of a zone under which somebody put another type: the zone waits, and the others go on."""

from __future__ import annotations

from typing import Any

import redis

from jaywalk.errors import InvalidValue
from jaywalk.zonelog import ZoneKeys


def check_types(client: Any, zone: str) -> None:
    """Raises ``InvalidValue`` that names the keys of ``zone`` that have another type than they should.

    ``client`` is redis-py's, of any kind.
    """
    keys = ZoneKeys(zone)
    wanted = {
        **dict.fromkeys((keys.meta, keys.peers, keys.leases, keys.seen, keys.creds), "hash"),
        **dict.fromkeys((keys.inbox, keys.orders), "list"),
        keys.events: "stream",
    }
    with client.pipeline(transaction=False) as pipe:
        for key in wanted:
            pipe.type(key)
        types = dict(zip(wanted, pipe.execute(), strict=True))
    wrong = [
        f"{key} is a {types[key]} and no {kind}"
        for key, kind in wanted.items()
        if types[key] not in (kind, "none")
    ]
    if wrong:
        raise InvalidValue(
            f"zone {zone} cannot be read: {', '.join(wrong)}",
            "restore it from a backup, or, where that holds nothing of worth, remove it by 'DEL'",
        )


def is_wrong_type(error: redis.ResponseError) -> bool:
    """Whether Redis refused a command, or a script's, since the key holds another type."""
    return str(error).startswith("WRONGTYPE")
