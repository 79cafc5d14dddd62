# SPDX-License-Identifier: GPL-3.0-or-later
"""Purge removes the files of one zone, and none of another zone or of the machine's owner."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from jaywalk.core.errors import JaywalkError
from jaywalk.core.runner import Finished
from jaywalk_agent.cli.purge import purge
from tests.agent_support import config_in


class Systemctl:
    """Stands in for systemd, since this test must not disable the machine's own units."""

    def __init__(self, returncode: int = 0) -> None:
        self.asked: list[str] = []
        self.returncode = returncode

    def run(self, argv: Sequence[str], stdin: str | None = None) -> Finished:
        self.asked.append(" ".join(argv))
        return Finished(self.returncode, "", "Access denied\n" if self.returncode else "")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The folders of a machine in two zones, with the key of one of them in its owner's folder."""
    files = [f"etc/zone-{zone}.{kind}" for zone in ("red", "blue") for kind in ("env", "password", "key")]
    files += [f"lib/{name}" for name in ("zone-red.json", "zone-blue.json", "instance")]
    files += [f"lib/run/zone-{zone}.{kind}" for zone in ("red", "blue") for kind in ("lock", "status")]
    for name in [*files, "owner.key"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    return tmp_path


def left(machine: Path) -> set[str]:
    return {str(each.relative_to(machine)) for each in machine.rglob("*")}


def test_one_zone_is_removed_and_the_other_stays_until_it_is_the_last(machine: Path) -> None:
    systemctl = Systemctl()
    before = left(machine)
    for zone in ("zone-blue", "zone-red", "zone-red"):
        words = {"zone": zone, "private_key_file": str(machine / "owner.key")}
        purge(config_in(machine / "lib", **words), systemctl, machine / "etc")
        if zone == "zone-blue":
            assert before - left(machine) == {each for each in before if "zone-blue" in each}
    assert left(machine) == {"owner.key"}
    assert systemctl.asked == [f"systemctl disable --quiet jaywalk-agent@zone-{z}" for z in ("blue", "red")]


def test_a_unit_that_cannot_be_disabled_keeps_its_service_file(machine: Path) -> None:
    before = left(machine)
    with pytest.raises(JaywalkError, match=r"zone-blue cannot be disabled \(Access denied\)"):
        purge(config_in(machine / "lib"), Systemctl(returncode=1), machine / "etc")
    assert left(machine) == before
