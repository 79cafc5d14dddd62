# SPDX-License-Identifier: GPL-3.0-or-later
"""Methods of one object that only one thread at a time executes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class HasLock(Protocol):
    """An object with a lock of its own."""

    lock: threading.RLock


T = TypeVar("T", bound=HasLock)


def serialised(method: Callable[Concatenate[T, P], R]) -> Callable[Concatenate[T, P], R]:
    """Holds the ``lock`` of the object while the method runs."""

    @wraps(method)
    def locked(self: T, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.lock:
            return method(self, *args, **kwargs)

    return locked
