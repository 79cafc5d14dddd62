# SPDX-License-Identifier: GPL-3.0-or-later
"""The module runs a service with its settings on disk and reports its health; systemd is scripted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.jaywalking.mesh.plugins.modules import jaywalk_service

from tests.ansible_modules import Answer, Machine, RunModule

UNIT = "jaywalk-agent@zone-blue.service"
LONG_AGO = "Sun 2001-09-09 01:46:40.000000 UTC"
FAR_AHEAD = "Sat 2286-11-20 17:46:40.000000 UTC"
NODE = {"zone": "zone-blue", "public_key": "own", "name": "web1-2", "requested_name": "web1"}
PEERS = [{"public_key": "ghost", "name": "web1"}, {"public_key": "other", "name": "web2"}]
STATUS = {**NODE, "reasons": [], "peers": PEERS}


class Systemd(Machine):
    """A scripted systemd with one unit, which it starts, or fails to start."""

    def __init__(self) -> None:
        super().__init__()
        self.active, self.enabled, self.reread = "active", "enabled", "no"
        self.started = LONG_AGO
        self.load, self.starts = "loaded", True
        self.status: Any = STATUS

    def run_command(self, argv: list[str], data: str | None = None, **options: Any) -> Answer:
        program, *words = argv
        if program.endswith("journalctl"):
            return (
                0,
                "-- cursor: s=1"
                if "--show-cursor" in words
                else "stopped\nStarting it\ncannot\ncannot\nFailed",
                "",
            )
        if program.endswith("jaywalk"):
            return (
                int(self.status != STATUS),
                self.status if isinstance(self.status, str) else json.dumps(self.status),
                "",
            )
        if words[0] == "show":
            shown = {
                "LoadState": self.load,
                "ActiveState": self.active,
                "UnitFileState": self.enabled,
                "NeedDaemonReload": self.reread,
                "ExecMainStartTimestamp": self.started,
            }
            return 0, "\n".join(f"{name}={value}" for name, value in shown.items()), ""
        self.calls.append((words, ""))
        if words[0] in ("start", "restart"):
            if not self.starts:
                return 1, "", "Job failed"
            self.active, self.started = "active", FAR_AHEAD
        self.enabled = "enabled" if words[0] == "enable" else self.enabled
        self.reread = "no" if words[0] == "daemon-reload" else self.reread
        return 0, "", ""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Systemd:
    systemd = Systemd()
    where = "ansible.module_utils.basic.AnsibleModule"
    monkeypatch.setattr(f"{where}.get_bin_path", lambda _self, program, **_options: f"/usr/bin/{program}")
    monkeypatch.setattr(f"{where}.run_command", lambda _self, argv, **more: systemd.run_command(argv, **more))
    return systemd


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "zone-blue.env").write_text("JAYWALK_ZONE=zone-blue\n")
    files = [str(tmp_path / "zone-blue.env"), str(tmp_path / "missing")]
    return {"name": UNIT, "files": files, "health": ["jaywalk", "status", "--json"]}


def test_a_service_with_current_settings_is_unchanged(
    machine: Systemd, run_module: RunModule, options: dict[str, Any]
) -> None:
    machine.started = FAR_AHEAD
    done = run_module(jaywalk_service, **options)
    assert not done["changed"]
    assert done["status"]["public_key"] == "own"
    assert machine.calls == []


@pytest.mark.parametrize(
    ("before", "steps"),
    [
        ({}, ["restart"]),
        ({"enabled": "disabled"}, ["enable", "restart"]),
        ({"enabled": "disabled", "started": FAR_AHEAD}, ["enable"]),
        ({"reread": "yes", "started": FAR_AHEAD}, ["daemon-reload", "restart"]),
        ({"active": "activating"}, ["start"]),
        ({"active": "failed", "enabled": ""}, ["enable", "start"]),
    ],
)
def test_settings_of_an_interrupted_run_are_applied(
    machine: Systemd,
    run_module: RunModule,
    options: dict[str, Any],
    before: dict[str, str],
    steps: list[str],
) -> None:
    for name, value in before.items():
        setattr(machine, name, value)
    predicted = run_module(jaywalk_service, check=True, **options)
    assert machine.calls == []
    done = run_module(jaywalk_service, **options)
    assert predicted["actions"] == done["actions"] == steps
    assert predicted["diff"] == done["diff"]
    assert [words[0] for words, _ in machine.calls] == steps
    assert not run_module(jaywalk_service, **options)["changed"]


def test_systemd_reloads_for_a_new_drop_in_folder(
    machine: Systemd, run_module: RunModule, options: dict[str, Any]
) -> None:
    options["files"].append(f"/etc/systemd/system/{UNIT}.d/netns.conf")
    assert run_module(jaywalk_service, **options)["actions"] == ["daemon-reload", "restart"]
    assert run_module(jaywalk_service, **options)["actions"] == []


def test_check_mode_takes_changed_settings_from_the_option(
    machine: Systemd, run_module: RunModule, options: dict[str, Any]
) -> None:
    machine.started = FAR_AHEAD
    assert run_module(jaywalk_service, check=True, changed=True, **options)["actions"] == ["restart"]


def test_a_service_that_does_not_start_shows_the_journal_of_this_start(
    machine: Systemd, run_module: RunModule, options: dict[str, Any]
) -> None:
    machine.starts = False
    done = run_module(jaywalk_service, **options)
    assert done["msg"] == f"{UNIT} did not start: cannot; Failed"


@pytest.mark.parametrize("check", [True, False])
def test_a_masked_unit_fails_with_the_remedy(
    machine: Systemd, run_module: RunModule, options: dict[str, Any], check: bool
) -> None:
    machine.load, machine.active = "masked", "inactive"
    done = run_module(jaywalk_service, check=check, **options)
    assert done["msg"] == f"{UNIT} is masked and cannot be started: run `systemctl unmask {UNIT}` there"
    assert machine.calls == []


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ({"reasons": ["the zone refuses", "no agent follows zone zone-blue"]}, "the zone refuses; no agent"),
        ("this node has not joined zone zone-blue", "has not joined zone zone-blue"),
    ],
)
def test_an_unhealthy_service_fails_with_its_own_reason(
    machine: Systemd, run_module: RunModule, options: dict[str, Any], status: Any, message: str
) -> None:
    machine.started = FAR_AHEAD
    machine.status = status
    for check in (False, True):
        done = run_module(jaywalk_service, check=check, **options)
        assert done["failed"]
        assert message in done["msg"].split("not in order: ")[1]


def test_another_node_of_the_same_name_is_returned(
    machine: Systemd, run_module: RunModule, options: dict[str, Any]
) -> None:
    done = run_module(jaywalk_service, **options)
    assert done["status"] == {**NODE, "namesakes": ["ghost"]}
