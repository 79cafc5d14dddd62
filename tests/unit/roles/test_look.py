# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent's role sees on a machine: namespaces that no zone is in, and the keys of all zones."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

FILES = Path(__file__).parents[3] / "roles/agent/files"
UNITS = "".join(f"jaywalk-netns@{name}.service loaded active exited Namespace\n" for name in ("red", "a-b"))
SYSTEMCTL = f"""#!/bin/sh
[ "$1" = list-units ] && cat <<'END'
{UNITS}END
exit 0
"""


WG = "#!/bin/sh\nsed s/^/public-of-/\n"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with a systemctl that has two namespaces, and a wg."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {"systemctl": SYSTEMCTL, "wg": WG}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def say(programs: Path, script: str, *words: str) -> dict[str, Any]:
    argv = ["sh", "-c", (FILES / script).read_text(), script, *words]
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def look(programs: Path, settings: Path, netns: str = "") -> dict[str, Any]:
    venv = str(programs.parent)
    return say(programs, "look.sh", venv, f"{venv}/stamp", "-", str(settings), "wg0", netns)


@pytest.mark.parametrize(
    ("wanted", "other", "given_up"),
    [
        ("", None, ["red", "a-b"]),
        ("", "red", ["a-b"]),
        ("red", None, ["a-b"]),
        ("a-b", "red", []),
    ],
)
def test_namespaces_that_no_zone_is_in_are_given_up(
    tmp_path: Path, programs: Path, wanted: str, other: str | None, given_up: list[str]
) -> None:
    """An earlier run's too; a machine that leaves its zone wants none."""
    settings = tmp_path / "zone-blue.env"
    settings.write_text("JAYWALK_NETNS=red\n")
    if other:
        (tmp_path / "zone-red.env").write_text(f"JAYWALK_NETNS={other}\n")
    assert look(programs, settings, wanted)["free_netns"].split() == given_up
    if not wanted:
        remains = say(programs, "remains.sh", "jaywalk-agent@zone-blue.service", str(settings))
        assert remains["free_netns"].split() == given_up


def test_a_machine_is_known_by_its_keys_in_all_zones_that_it_is_in(tmp_path: Path, programs: Path) -> None:
    """So that no play takes it out of a zone that another one has it join; it left zone-old."""
    settings = tmp_path / "zone-blue.env"
    assert look(programs, settings)["keys"] == []
    for zone in ("zone-blue", "zone-red"):
        (tmp_path / f"{zone}.env").touch()
    for zone in ("zone-blue", "zone-red", "zone-old"):
        (tmp_path / f"{zone}.key").write_text(f"{zone}\n")
    assert look(programs, settings)["keys"] == ["public-of-zone-blue", "public-of-zone-red"]
