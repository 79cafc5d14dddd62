# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores an interface after a change that failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..core.errors import JaywalkError
from ..core.runner import Runner, run_checked
from . import plan
from .interface import Interface, ObservedInterface
from .linux import Linux
from .steps import LinkStep


@contextmanager
def restored_on_failure(runner: Runner, before: ObservedInterface | None) -> Iterator[None]:
    """Restores the interface ``before``, if there was one, when the block raises ``JaywalkError``."""
    if before is None:
        yield
        return
    # With keys, which therefore stay in memory. Not by a plan, which has no preshared keys.
    settings = run_checked(runner, ["wg", "showconf", before.name])
    try:
        yield
    except JaywalkError:
        with suppress(JaywalkError):
            _restore(runner, before, settings)
        raise


def _restore(runner: Runner, before: ObservedInterface, settings: str) -> None:
    # A peer that stays the same loses no packet by 'syncconf' (wg(8)).
    runner.run(["wg", "syncconf", before.name, "/dev/stdin"], settings)
    now = Linux(runner).observe(before.name)
    former = Interface(
        name=before.name,
        public_key=before.public_key,
        private_key_file="",
        listen_port=before.listen_port,
        addresses=before.addresses,
        mtu=before.mtu,
        peers=before.peers,
        routes=before.routes,
    )
    steps = tuple(step for step in plan.diff(now, former).steps if isinstance(step, LinkStep))
    Linux(runner).attempt(plan.Plan(before.name, steps))
    if not before.up:
        runner.run(["ip", "link", "set", "dev", before.name, "down"])
