# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

from lab import base_tree

TARGETS = """http://mirror.example/debian/|bookworm|main
http://mirror.example/debian/|bookworm-updates|main
http://mirror.example/debian/|bookworm-backports|main
http://mirror.example/debian/|bookworm|contrib
http://elsewhere.example/|nodistro|main
"""


def test_only_the_suites_own_main_is_taken_from_the_host() -> None:
    assert base_tree.source_lines(TARGETS, "bookworm", Path("/ring.gpg")) == [
        "deb [signed-by=/ring.gpg] http://mirror.example/debian/ bookworm main",
        "deb [signed-by=/ring.gpg] http://mirror.example/debian/ bookworm-updates main",
    ]


def test_a_host_without_the_suite_leaves_the_choice_to_mmdebstrap() -> None:
    assert base_tree.source_lines("", "bookworm") == []


def test_finishing_removes_what_a_machine_makes_itself(tmp_path: Path) -> None:
    wants = tmp_path / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "redis-server.service").symlink_to("/nowhere")
    (wants / "ssh.service").symlink_to("/nowhere")
    (tmp_path / "etc/resolv.conf").write_text("nameserver 192.0.2.1\n")
    base_tree.finish(tmp_path, {"etc/resolv.conf": ""}, base_tree.REMOVED)
    assert [path.name for path in wants.iterdir()] == ["ssh.service"]
    assert (tmp_path / "etc/resolv.conf").read_text() == ""
