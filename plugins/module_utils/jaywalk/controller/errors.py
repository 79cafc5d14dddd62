# SPDX-License-Identifier: GPL-3.0-or-later
"""Translates redis-py's errors into errors of this project.

Callers never handle redis-py's own errors, and no message contains a password.
"""

from __future__ import annotations

from ..core.errors import (
    ControllerCrowded,
    ControllerDenied,
    ControllerFull,
    ControllerUnreachable,
    JaywalkError,
)
from . import bounded, tls
from .address import ControllerAddress

if bounded.HAS_REDIS:
    import redis

    UNANSWERED = (redis.ConnectionError, redis.TimeoutError, redis.exceptions.RedisClusterException)


class RedisErrorTranslator:
    """Translates redis-py's errors; messages name the address and the user, never the password.

    A class, since an agent makes one for each read, and ``contextmanager`` takes four times as long.
    """

    __slots__ = ("_where",)

    def __init__(self, where: ControllerAddress) -> None:
        self._where = where

    def __enter__(self) -> None:
        """Does nothing."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None and (ours := _translation(self._where, error)) is not None:
            raise ours from None


def _translation(where: ControllerAddress, error: BaseException) -> JaywalkError | None:
    user = f"user '{where.user or 'default'}'"
    refused = f"the controller {where} refused {user}"
    if isinstance(error, (redis.AuthenticationError, redis.exceptions.AuthorizationError)):
        return ControllerDenied(
            refused, "check the password, and that the zone exists ('jaywalk-supervisor zone list')"
        )
    if isinstance(error, redis.exceptions.NoPermissionError):
        return ControllerDenied(
            f"the controller {where} does not let {user} do this ({error})", "use a user that may"
        )
    if (unready := tls.explanation(where, where.tls, error) or _unready(where, error)) is not None:
        return unready
    if isinstance(error, (*UNANSWERED, OSError, UnicodeError)):
        if "NOAUTH" in str(error) or "WRONGPASS" in str(error):
            return ControllerDenied(refused, "check the password")
        return ControllerUnreachable(
            f"the controller {where} cannot be reached ({_reason(error)})",
            "check that Redis runs there, listens on that address and is not behind a firewall",
        )
    if not isinstance(error, redis.RedisError):
        return None
    return ControllerDenied(
        f"the controller {where} refused a command ({error})", "look into the log of Redis"
    )


def _unready(where: ControllerAddress, error: BaseException) -> ControllerUnreachable | None:
    """The error for a server that replies but cannot serve the zone now."""
    if isinstance(error, (redis.exceptions.AskError, redis.exceptions.ClusterDownError)):
        return ControllerUnreachable(
            f"the controller {where} does not hold the zone at the moment ({error})",
            "wait until the cluster is whole",
        )
    if isinstance(error, bounded.WantsTls):
        return tls.wants_tls(where)
    if isinstance(error, bounded.UnexpectedReply):
        return ControllerUnreachable(
            f"the controller {where} sends {error}", "is it Redis? Check what listens there"
        )
    if isinstance(error, redis.exceptions.ReadOnlyError) or str(error).startswith("UNBLOCKED"):
        return ControllerUnreachable(
            f"the controller {where} is a read-only replica",
            "name the primary, or make it one ('redis-cli REPLICAOF NO ONE')",
        )
    if is_full(error):
        return memory_full(where)
    if "max number of clients" in str(error):
        return ControllerCrowded(
            f"the controller {where} accepts no further connection ('maxclients')",
            "wait: a running supervisor closes what is over the bound of a zone; or raise 'maxclients'",
        )
    if str(error).startswith("NOREPLICAS"):
        return ControllerUnreachable(
            f"the controller {where} has too few replicas to take anything in",
            "wait until its replicas are back",
        )
    return None


def is_full(error: BaseException) -> bool:
    """Whether Redis refused a command because its memory is full."""
    return isinstance(error, redis.ResponseError) and "used memory > 'maxmemory'" in str(error)


def memory_full(where: ControllerAddress) -> ControllerFull:
    """The error for a Redis whose memory is full."""
    return ControllerFull(
        f"the controller {where} has no memory left",
        "give its Redis more ('maxmemory'), or remove what fills it ('redis-cli --memkeys' shows that)",
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, UnicodeError):
        return "no such name"
    if isinstance(error.__context__, BlockingIOError):  # a timeout that the kernel applied
        return "no answer in time"
    return str(error).rstrip(".") or type(error).__name__
