# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent role's inspection of a machine: unused network namespaces, and the keys of all zones."""

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
    """A folder with a fake systemctl that lists two namespaces, and a fake wg."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {"systemctl": SYSTEMCTL, "wg": WG}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def run_script(programs: Path, script: str, *arguments: str) -> dict[str, Any]:
    argv = ["sh", "-c", (FILES / script).read_text(), script, *arguments]
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def inspect(programs: Path, settings: Path, netns: str = "") -> dict[str, Any]:
    venv = str(programs.parent)
    return run_script(programs, "inspect.sh", venv, f"{venv}/stamp", "-", str(settings), "wg0", netns)


@pytest.mark.parametrize(
    ("desired", "other", "unused"),
    [
        ("", None, ["red", "a-b"]),
        ("", "red", ["a-b"]),
        ("red", None, ["a-b"]),
        ("a-b", "red", []),
    ],
)
def test_namespaces_that_no_zone_uses_are_unused(
    tmp_path: Path, programs: Path, desired: str, other: str | None, unused: list[str]
) -> None:
    """This includes those of an earlier run; a machine that leaves its zone needs none."""
    settings = tmp_path / "zone-blue.env"
    settings.write_text("JAYWALK_NETNS=red\n")
    if other:
        (tmp_path / "zone-red.env").write_text(f"JAYWALK_NETNS={other}\n")
    assert inspect(programs, settings, desired)["unused_netns"].split() == unused
    if not desired:
        leftovers = run_script(
            programs, "inspect_leftovers.sh", "jaywalk-agent@zone-blue.service", str(settings)
        )
        assert leftovers["unused_netns"].split() == unused


def test_the_machine_reports_its_keys_in_all_its_zones(tmp_path: Path, programs: Path) -> None:
    """So no play removes it from a zone that another play joins; it left zone-old."""
    settings = tmp_path / "zone-blue.env"
    assert inspect(programs, settings)["keys"] == []
    for zone in ("zone-blue", "zone-red"):
        (tmp_path / f"{zone}.env").touch()
    for zone in ("zone-blue", "zone-red", "zone-old"):
        (tmp_path / f"{zone}.key").write_text(f"{zone}\n")
    assert inspect(programs, settings)["keys"] == ["public-of-zone-blue", "public-of-zone-red"]
