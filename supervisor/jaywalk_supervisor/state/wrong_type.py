# SPDX-License-Identifier: GPL-3.0-or-later
"""Redis keys that hold another type than expected: their zone waits, and other zones are served."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from jaywalk.core.errors import InvalidValue
from jaywalk.zone.redis_keys import ZoneKeys


def check_types(client: Any, zone: str) -> None:
    """Raises ``InvalidValue`` that names the keys of ``zone`` with another type than expected.

    ``client`` is any client of redis-py.
    """
    keys = ZoneKeys(zone)
    expected = {
        **dict.fromkeys(
            (
                *(keys.meta, keys.peers, keys.leases, keys.last_seen, keys.credentials),
                *(keys.blocked, keys.floors, keys.join_tokens, keys.pending),
            ),
            "hash",
        ),
        **dict.fromkeys((keys.inbox, keys.operator_inbox), "list"),
        keys.events: "stream",
    }
    with client.pipeline(transaction=False) as pipe:
        for key in expected:
            pipe.type(key)
        types = dict(zip(expected, pipe.execute(), strict=True))
    wrong = [
        f"{key} is a {types[key]} and no {kind}"
        for key, kind in expected.items()
        if types[key] not in (kind, "none")
    ]
    if wrong:
        raise InvalidValue(
            f"zone {zone} cannot be read: {', '.join(wrong)}",
            _remedy(wrong[0].split()[0]),
        )


@contextmanager
def explaining_wrong_types(client: Any, zone: str) -> Iterator[None]:
    """Replaces a WRONGTYPE error of a command in its block by the error of :func:`check_types`."""
    try:
        yield
    except redis.ResponseError as error:
        if is_wrong_type(error):
            check_types(client, zone)
        raise


def unreadable_meta(zone: str) -> InvalidValue:
    """The error for a zone whose meta data do not parse."""
    return InvalidValue(
        f"the meta data of zone {zone} do not parse",
        _remedy(ZoneKeys(zone).meta),
    )


def members(client: Any, key: str) -> set[str]:
    """The members of a set that all zones share; raises ``InvalidValue`` if the key is no set."""
    try:
        return set(client.smembers(key))
    except redis.ResponseError as error:
        if not is_wrong_type(error):
            raise
        raise InvalidValue(
            f"the key {key} in the controller is no set",
            _remedy(key),
        ) from None


def _remedy(key: str) -> str:
    return (
        f"restore it from a backup, or remove it ('redis-cli DEL {key}'): a running supervisor restores "
        "its copy"
    )


def is_wrong_type(error: redis.ResponseError) -> bool:
    """Whether Redis refused a command (also in a script or a pipeline) because of a key's type."""
    return "WRONGTYPE " in str(error)
