# SPDX-License-Identifier: GPL-3.0-or-later
"""Users of Redis on all servers of a controller: made, changed and removed, with the connections they have.

Redis does not end a connection whose user gets another password or loses rights, so that whoever was
connected would read on.  Each change here closes the user's connections; who still may connects again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

import redis

from .connection import Connection

log = logging.getLogger(__name__)

# Users in one command, or in one round trip.
PAGE = 500


def set_user(store: Connection, user: str, rules: Sequence[str]) -> None:
    """Creates ``user`` with ``rules``, or gives them to it and then closes its connections.

    Raises redis-py's ``ResponseError`` if the server lets us make no users.
    """
    before = _known(store, user)
    store.run_on_all_nodes("ACL", "SETUSER", user, *rules)
    if before and any(
        found and found != now for found, now in zip(before, _known(store, user), strict=False)
    ):
        close_connections(store, [user])


def remove_users(store: Connection, users: Collection[str]) -> bool:
    """Removes ``users`` and closes their connections; returns whether the server lets us.

    Redis closes the connections of a user that it removes; a server that does not let us remove users may
    still let us close connections.
    """
    listed = sorted(users)
    try:
        for at in range(0, len(listed), PAGE):
            store.run_on_all_nodes("ACL", "DELUSER", *listed[at : at + PAGE])
    except redis.ResponseError:
        close_connections(store, listed)
        return False
    return True


def close_connections(store: Connection, users: Collection[str]) -> None:
    """Closes the connections of ``users``, or logs that the server does not let us."""
    for user in users:
        try:
            store.run_on_all_nodes("CLIENT KILL", "USER", user)
        except redis.ResponseError as error:
            log.warning(
                "the controller refuses to close the connections of its user %s (%s): who is connected as it "
                "stays connected until Redis is restarted, or until you close them by CLIENT KILL",
                user,
                error,
            )
            return


def user_names(store: Connection) -> tuple[set[str], set[str]]:
    """Returns the users that all servers have, and those that any has.

    Raises redis-py's ``ResponseError`` if the server does not let us list them.
    """
    listed = [set(map(str, names)) for names in store.run_on_all_nodes("ACL", "USERS")]
    return set.intersection(*listed), set.union(*listed)


def may_make_users(store: Connection) -> bool:
    """Whether the server lets us make users; many managed ones do not."""
    try:
        store.run_on_all_nodes("ACL", "SETUSER", _PROBE, "reset", "off")
        store.run_on_all_nodes("ACL", "DELUSER", _PROBE)
    except redis.ResponseError:
        return False
    return True


_PROBE = "jaywalk-probe"


def _known(store: Connection, user: str) -> list[Any]:
    """Returns what each server knows about ``user``, None for no such user; nothing if that is refused."""
    with suppress(redis.ResponseError):
        return [_comparable(found) for found in store.run_on_all_nodes("ACL", "GETUSER", user)]
    return []


def _comparable(found: Any) -> Any:
    """Returns a reply to ACL GETUSER without the order of its flags and rules."""
    if not isinstance(found, dict):
        return found
    return {name: sorted(value) if isinstance(value, list) else value for name, value in found.items()}
