# SPDX-License-Identifier: GPL-3.0-or-later
"""Zones, views and configurations to test the agent with."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jaywalk.zone.events import Change, Event
from jaywalk.zone.models import Peer, Zone
from jaywalk.zone.view import ZoneView
from jaywalk_agent.agent import Agent
from jaywalk_agent.config import AgentConfig
from jaywalk_agent.host.signals import Stopped, StopSignal
from tests.strategies import key

ZONE = Zone("zone-blue", ("10.20.0.0/20",), "Tenancy Zone Blue")
PASSWORD = "agents-of-the-tests-0123"


def peer(number: int, **fields: Any) -> Peer:
    return Peer(key(number), f"node{number}", (f"10.20.0.{number + 1}",), **fields)


def view_of(*peers: Peer, rev: int = 0) -> ZoneView:
    return ZoneView(ZONE, 7, rev, {each.key: each for each in peers})


def event(view: ZoneView, *records: Peer, gone: tuple[str, ...] = ()) -> set[str]:
    """Takes a commit into ``view`` as its reader does; returns the keys that changed."""
    changes = [Change("-", each) for each in gone]
    changes += [Change("+", each.key, {**each.to_wire(), "r": view.rev + 1}) for each in records]
    return view.apply(Event(view.epoch, view.rev + 1, tuple(changes)))


def config_in(folder: Path, **options: str) -> AgentConfig:
    """A configuration whose files all lie in ``folder``."""
    base = {"state_dir": str(folder), "private_key_file": str(folder / "key"), "name": "node0"}
    return AgentConfig.read({**base, **options})


def run(agent: Agent, act: Callable[[], object]) -> None:
    """Runs the agent until ``act`` is through; what fails in there fails the test."""
    failures: list[BaseException] = []

    def acting() -> None:
        try:
            act()
        except BaseException as error:
            failures.append(error)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=acting)
    thread.start()
    with pytest.raises(Stopped):
        agent.run()
    thread.join()
    if failures:
        raise failures[0]


@pytest.fixture
def stop() -> Iterator[StopSignal]:
    """Signals as the agent takes them, and as they were after the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield StopSignal()
    for number, handler in before.items():
        signal.signal(number, handler)
