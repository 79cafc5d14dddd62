# SPDX-License-Identifier: GPL-3.0-or-later
"""A node on a platform without path repair: it reports endpoints, and reports the limitation."""

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
OBSERVED = "203.0.113.7:4711"


class Wg:
    """``wg`` with one peer behind a NAT, with a handshake of this second."""

    def run(self, argv: Sequence[str], stdin: str | None = None) -> Finished:
        if list(argv[:2]) == ["wg", "show"]:
            spoke = f"{SPOKE.key}\t(none)\t{OBSERVED}\t10.20.0.2/32\t{int(time.time())}\t9\t9\t25"
            return Finished(0, f"private\t{OWN.key}\t51820\toff\n{spoke}\n", "")
        return Finished(0, f"{OWN.key}\n" if argv[0] == "wg" else "[]", "")


class Reports(BackgroundSender):
    def __init__(self) -> None:
        self.sent: list[Mapping[str, str]] = []

    def report(self, observed: Mapping[str, str]) -> bool:
        self.sent.append(observed)
        return True


@pytest.fixture
def without_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (agent, nat):
        monkeypatch.setattr(module, "PLATFORM", platform.DARWIN)


def test_it_reports_observed_endpoints_at_each_full_check() -> None:
    sender = Reports()
    manager = PassivePathManager(Wg(), "wg0", OWN.key, sender)
    manager.update(view_of(OWN, SPOKE), {SPOKE.key})
    assert sender.sent == [], "an event alone starts no observation"
    manager.update(view_of(OWN, SPOKE), None)
    assert sender.sent == [{SPOKE.key: OBSERVED}]
    assert manager.endpoint_reporter.observed_endpoints() == {SPOKE.key: OBSERVED}


@pytest.mark.usefixtures("without_paths")
def test_the_agent_logs_that_it_repairs_no_paths(
    tmp_path: Path, stop: StopSignal, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "key").write_text(key(9) + "\n")
    config = config_in(tmp_path, controller="127.0.0.1", controller_password="x")
    node = agent.Agent(config, Wg(), stop)
    assert isinstance(node.path_manager, PassivePathManager)
    with caplog.at_level(logging.INFO), node.path_manager.running():
        assert "repairs no paths" in caplog.text
    node.path_manager.remove()


@pytest.mark.usefixtures("without_paths")
def test_the_doctor_mentions_no_relay_as_a_remedy(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    config.private_key_file.write_text(key(9) + "\n")
    own = peer(0, endpoint="192.168.1.9:51820", observed="203.0.113.9:1", symmetric=True)
    relay = peer(1, endpoint="192.0.2.9:51820", relay=51821)
    snapshot.save(config.snapshot_file, view_of(own, relay))
    found = {finding.about: finding for finding in doctor.examine(config, Wg())}
    assert found["paths"] == Finding(WARNING, "paths", passive.LIMITATION)
    assert "no relay carries traffic of this platform" in found["nat"].sentence


def test_the_doctor_reports_no_limitation_on_linux(tmp_path: Path) -> None:
    assert "paths" not in {finding.about for finding in doctor.examine(config_in(tmp_path), Wg())}
