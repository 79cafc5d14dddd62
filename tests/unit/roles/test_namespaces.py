# SPDX-License-Identifier: GPL-3.0-or-later
"""Which network namespaces the agent's role gives up: those of its units in which no zone is any more."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

FILES = Path(__file__).parents[3] / "roles/agent/files"
UNITS = "".join(f"jaywalk-netns@{name}.service loaded active exited Namespace\n" for name in ("red", "a-b"))
SYSTEMCTL = f"""#!/bin/sh
[ "$1" = list-units ] && cat <<'END'
{UNITS}END
exit 0
"""


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
    tmp_path: Path, wanted: str, other: str | None, given_up: list[str]
) -> None:
    """An earlier run's too; a machine that leaves its zone wants none."""
    program = tmp_path / "bin/systemctl"
    program.parent.mkdir()
    program.write_text(SYSTEMCTL)
    program.chmod(0o755)
    settings = tmp_path / "zone-blue.env"
    settings.write_text("JAYWALK_NETNS=red\n")
    if other:
        (tmp_path / "zone-red.env").write_text(f"JAYWALK_NETNS={other}\n")

    def free(script: str, *words: str) -> list[str]:
        argv = ["sh", "-c", (FILES / script).read_text(), script, *words]
        environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
        said = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout
        return str(json.loads(said)["free_netns"]).split()

    looked = free("look.sh", str(tmp_path), str(tmp_path / "stamp"), "-", str(settings), "wg0", wanted)
    assert looked == given_up
    if not wanted:
        assert free("remains.sh", "jaywalk-agent@zone-blue.service", str(settings)) == given_up
