# SPDX-License-Identifier: GPL-3.0-or-later
"""``jaywalk doctor``: whether all that the zone says is signed, where this node pins lock keys."""

from __future__ import annotations

from collections.abc import Iterator

from jaywalk.core import validation

from ..zone.membership import Membership
from .context import BAD, GOOD, WARNING, DoctorContext

# Records that are not taken and whose reasons are findings of their own.
MAX_NAMED = 10


def lock(node: DoctorContext) -> Iterator[tuple[str, str]]:
    """The lock of this node, and each record that it does not take."""
    view, zone = node.view, node.config.zone
    if view is None or view.lock is None:
        if node.config.lock_keys:
            yield WARNING, f"no signed statement of zone {zone} is known here yet"
        return
    statement = view.lock.statement
    if error := Membership(zone, node.key).unsigned_reason(view):
        yield BAD, error
    elif statement is not None:
        expires = f" until {validation.iso_time(statement.expires)}" if statement.expires else ""
        yield GOOD, f"the lock key signed zone {zone} (statement {statement.serial}{expires})"
    others = sorted(reason for key, reason in view.rejected.items() if key != node.key)
    for reason in others[:MAX_NAMED]:
        yield WARNING, reason
    if len(others) > MAX_NAMED:
        yield WARNING, f"{len(others) - MAX_NAMED} more records are not taken"
