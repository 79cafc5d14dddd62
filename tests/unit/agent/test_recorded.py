# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that an agent of commit 7b62cc7 wrote: after an upgrade this version continues from them.

It writes the same fields, so that the version before continues from them too.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jaywalk.zone.policy import Policy
from jaywalk_agent.dataplane.interface_record import InterfaceRecord
from jaywalk_agent.host import machine_id
from jaywalk_agent.host.runtime_state import Report
from jaywalk_agent.paths import path_status
from jaywalk_agent.paths.path_status import PathStatus
from jaywalk_agent.zone import snapshot

OWN_KEY, KEY = "on+n5/by98MqONkG57cbhON9Nsw8a/Fb7Bt8cc+iaCE=", "I6WemP6wQwjk6Um6V8lO2a+a82TvPg7ZBQhiS61qBAE="
SNAPSHOT = r"""{"zone":"zone-blue","meta":{"pools":"[\"10.20.0.0/20\"]","description":"Tenancy Zone Blue",
"policy":"{\"takeover\": \"always\", \"quarantine\": 3600, \"stale_after\": 900, \"forget_after\": 2592000}"},
"epoch":1795981725798,"rev":5,"wait_ms":100,"history":[[1795981517976,4]],
"marks":[[1795981517976,4,"6b040e751604"],[1795981725798,5,"dbeedf49d612"]],
"retained":{"I6WemP6wQwjk6Um6V8lO2a+a82TvPg7ZBQhiS61qBAE=":[1795981517976,1795981726.5]},
"peers":{"on+n5/by98MqONkG57cbhON9Nsw8a/Fb7Bt8cc+iaCE=":{"n":"node1","a":["10.20.0.1"],"s":1795981616818380,"r":2,
"e":"10.99.1.11:51820","m":"8d006a27","i":1795981616},"I6WemP6wQwjk6Um6V8lO2a+a82TvPg7ZBQhiS61qBAE=":{"n":"node3",
"a":["10.20.0.3"],"s":1795981617497347,"r":4,"e":"10.99.1.13:51820","m":"9cac6f42","i":1795981617}}}"""
PATHS = (
    '{"I6WemP6wQwjk6Um6V8lO2a+a82TvPg7ZBQhiS61qBAE=": '
    '{"path": "relayed", "relay": "7bEHbn6g9DFjcmS29QvRTJ0I8CJ9+xkAGrAadowP+gk=", '
    '"endpoint": "10.99.1.13:51820", "keepalive": 25}}\n'
)
INTERFACE = '{"name": "wg0", "public_key": "on+n5/by98MqONkG57cbhON9Nsw8a/Fb7Bt8cc+iaCE=", "netns": ""}\n'
STATUS = '{"pid": 269, "trouble": "", "since": 1795981617.1066492, "waiting": false, "joined": true}\n'
INSTANCE = (
    '{"number": "19bdae04656726112485b836eacd53d5", '
    '"traits": {"machine-id": ["8b054886b1cd7a6a"], "links": ["fb0cf0f731f8ccdb"]}}\n'
)


def test_snapshot_of_the_version_before(tmp_path: Path) -> None:
    file = tmp_path / "zone-blue.json"
    file.write_text(SNAPSHOT)
    view = snapshot.load(file, "zone-blue")
    assert view is not None
    assert (view.epoch, view.rev, view.history) == (1795981725798, 5, ((1795981517976, 4),))
    assert {peer.name: peer.addresses for peer in view.peers.values()} == {
        "node1": ("10.20.0.1",),
        "node3": ("10.20.0.3",),
    }
    assert tuple(view.retained[KEY]) == (1795981517976, 1795981726.5)
    snapshot.save(file, view)
    written, before = json.loads(file.read_text()), json.loads(SNAPSHOT)
    written["meta"]["policy"] = json.loads(written["meta"]["policy"])
    before["meta"]["policy"] = json.loads(Policy.from_wire(before["meta"]["policy"]).to_wire())
    assert written == before


def test_path_status_file_of_the_version_before(tmp_path: Path) -> None:
    file = tmp_path / "zone-blue.paths"
    file.write_text(PATHS)
    relay = "7bEHbn6g9DFjcmS29QvRTJ0I8CJ9+xkAGrAadowP+gk="
    statuses = path_status.load(file)
    assert statuses == {KEY: PathStatus("relayed", relay, "10.99.1.13:51820", 25)}
    path_status.save(file, statuses)
    assert file.read_text() == PATHS


def test_interface_record_of_the_version_before(tmp_path: Path) -> None:
    file = tmp_path / "zone-blue.interface"
    file.write_text(INTERFACE)
    record = InterfaceRecord.read(file)
    assert record == InterfaceRecord("wg0", OWN_KEY, "")
    assert record is not None
    record.write(file)
    assert file.read_text() == INTERFACE


def test_agents_status_of_the_version_before(tmp_path: Path) -> None:
    file = tmp_path / "zone-blue.status"
    file.write_text(STATUS)
    report = Report.read(file)
    assert report == Report(pid=269, trouble="", since=1795981617.1066492, waiting=False, joined=True)
    assert report is not None
    report.write(file)
    assert file.read_text() == STATUS


def test_machine_keeps_the_id_that_the_version_before_gave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "instance").write_text(INSTANCE)
    traits = json.loads(INSTANCE)["traits"]
    monkeypatch.setattr(machine_id, "observe_traits", lambda _root: traits)
    assert machine_id.own_machine_id(tmp_path) == "8d006a27"
    assert (tmp_path / "instance").read_text() == INSTANCE
