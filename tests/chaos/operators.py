# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators' requests during a round, each in its own thread, since any may get no reply."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from types import TracebackType

from .agents import ChaosAgent

# The share of reservations that include a prefix in addition to the address.
PREFIX_SHARE = 0.3
RELEASE_TRIES = 60


class Operators:
    """Sends operators' requests about agents, until the block ends."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="operator")

    def __enter__(self) -> Operators:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def reserve(self, agent: ChaosAgent, value: float) -> None:
        """Reserve the agent's lease, for some agents with a prefix."""
        prefixes = (f"172.22.{agent.number}.0/24",) if value % 1 < PREFIX_SHARE else ()
        self._pool.submit(agent.order, "reserve", agent.key, child_prefixes=prefixes)

    def expect(self, agent: ChaosAgent, value: float) -> None:
        """Reserve a lease by name, for the agent's host with another key."""
        requested = (f"10.30.0.{20 + agent.number % 10}",) if value % 1 < PREFIX_SHARE else ()
        self._pool.submit(agent.order, "reserve", name=agent.name, request_ip=requested)

    def run(self, action: Callable[[], object]) -> None:
        """Run an action other than a request; it may fail, like everything here."""
        self._pool.submit(action)

    def show(self, agent: ChaosAgent) -> None:
        self._pool.submit(agent.order, "show", agent.key)

    def tidy(self, agents: Iterable[ChaosAgent]) -> None:
        """Release the former keys of agents, so that others find free addresses; wait for the replies.

        Also release keys that the zone does not list: agents retain a peer that Redis lost until its release.
        """
        wait([self._pool.submit(_release, agent, key) for agent in agents for key in agent.former_keys])


def _release(agent: ChaosAgent, key: str) -> None:
    for _ in range(RELEASE_TRIES):
        reply = agent.order("release", key)
        if reply is not None and reply.ok:
            return
