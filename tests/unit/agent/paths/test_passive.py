# SPDX-License-Identifier: GPL-3.0-or-later
"""A node whose platform mends no path: it follows its zone, tells what it sees, and says what it lacks."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from jaywalk.core.runner import Finished
from jaywalk_agent import agent
from jaywalk_agent.doctor import nat
from jaywalk_agent.doctor import run as doctor
from jaywalk_agent.doctor.context import WARNING, Finding
from jaywalk_agent.host import platform
from jaywalk_agent.host.signals import StopSignal
from jaywalk_agent.paths import passive
from jaywalk_agent.paths.passive import PassivePathManager
from jaywalk_agent.zone import snapshot
from jaywalk_agent.zone.background_sender import BackgroundSender
from tests.agent_support import config_in, peer, view_of
from tests.strategies import key

OWN, SPOKE = peer(0, endpoint="192.0.2.1:51820"), peer(1, endpoint="192.168.1.2:51820")
SEEN = "203.0.113.7:4711"


class Wg:
    """``wg`` with one peer behind a NAT, whose handshake was just now."""

    def run(self, argv: Sequence[str], stdin: str | None = None) -> Finished:
        if list(argv[:2]) == ["wg", "show"]:
            spoke = f"{SPOKE.key}\t(none)\t{SEEN}\t10.20.0.2/32\t{int(time.time())}\t9\t9\t25"
            return Finished(0, f"private\t{OWN.key}\t51820\toff\n{spoke}\n", "")
        return Finished(0, f"{OWN.key}\n" if argv[0] == "wg" else "[]", "")


class Told(BackgroundSender):
    def __init__(self) -> None:
        self.told: list[Mapping[str, str]] = []

    def report(self, observed: Mapping[str, str]) -> bool:
        self.told.append(observed)
        return True


@pytest.fixture
def without_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (agent, nat):
        monkeypatch.setattr(module, "PLATFORM", platform.DARWIN)


def test_it_tells_the_zone_where_it_sees_a_peer_at_each_full_look() -> None:
    sender = Told()
    eyes = PassivePathManager(Wg(), "wg0", OWN.key, sender)
    eyes.update(view_of(OWN, SPOKE), {SPOKE.key})
    assert sender.told == [], "an event alone is no reason to look"
    eyes.update(view_of(OWN, SPOKE), None)
    assert sender.told == [{SPOKE.key: SEEN}]
    assert eyes.observer.observed() == {SPOKE.key: SEEN}


@pytest.mark.usefixtures("without_paths")
def test_the_agent_there_says_that_it_mends_no_path(
    tmp_path: Path, stop: StopSignal, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "key").write_text(key(9) + "\n")
    config = config_in(tmp_path, controller="127.0.0.1", controller_password="x")
    node = agent.Agent(config, Wg(), stop)
    assert isinstance(node.path_manager, PassivePathManager)
    with caplog.at_level(logging.INFO), node.path_manager.running():
        assert "no path is mended" in caplog.text
    node.path_manager.remove()
    assert node.dataplane.ways == {}


@pytest.mark.usefixtures("without_paths")
def test_the_doctor_there_promises_no_relay(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    config.private_key_file.write_text(key(9) + "\n")
    own = peer(0, endpoint="192.168.1.9:51820", observed="203.0.113.9:1", symmetric=True)
    relay = peer(1, endpoint="192.0.2.9:51820", relay=51821)
    snapshot.save(config.snapshot_file, view_of(own, relay))
    found = {each.about: each for each in doctor.examine(config, Wg())}
    assert found["paths"] == Finding(WARNING, "paths", passive.SENTENCE)
    assert "no relay carries anything for this platform" in found["nat"].sentence


def test_on_linux_nothing_of_this_is_said(tmp_path: Path) -> None:
    assert "paths" not in {each.about for each in doctor.examine(config_in(tmp_path), Wg())}
