# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators' requests during a round, each in its own thread, since any may wait for nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from types import TracebackType

from .agents import ChaosAgent

KEEP = 0.3
"""The share of reservations that keep a prefix, and not the address alone."""
TIDY_TRIES = 60


class Operators:
    """Orders about agents, until the block ends."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="operator")

    def __enter__(self) -> Operators:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def reserve(self, agent: ChaosAgent, value: float) -> None:
        """What the agent has is its own from now on, some of them with a prefix."""
        prefixes = (f"172.22.{agent.number}.0/24",) if value % 1 < KEEP else ()
        self._pool.submit(agent.order, "reserve", agent.key, child_prefixes=prefixes)

    def expect(self, agent: ChaosAgent, value: float) -> None:
        """The agent's host is to come with another key, and finds a lease that waits for its name."""
        wished = (f"10.30.0.{20 + agent.number % 10}",) if value % 1 < KEEP else ()
        self._pool.submit(agent.order, "reserve", name=agent.name, request_ip=wished)

    def run(self, order: Callable[[], object]) -> None:
        """Something else than a request; it may fail, as all does here."""
        self._pool.submit(order)

    def show(self, agent: ChaosAgent) -> None:
        self._pool.submit(agent.order, "show", agent.key)

    def tidy(self, agents: Iterable[ChaosAgent]) -> None:
        """Releases the keys that no agent has any more, so that the others find room; waits for the answers.

        Also those that the zone does not list: agents retain a peer that Redis lost until they hear of it.
        """
        wait([self._pool.submit(_release, agent, key) for agent in agents for key in agent.former_keys])


def _release(agent: ChaosAgent, key: str) -> None:
    for _ in range(TIDY_TRIES):
        reply = agent.order("release", key)
        if reply is not None and reply.ok:
            return
