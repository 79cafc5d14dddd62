# SPDX-License-Identifier: GPL-3.0-or-later
"""The folders of each platform, and the launchd job of macOS."""

from __future__ import annotations

import plistlib
import sys
from pathlib import Path

import pytest

from jaywalk.core.errors import InvalidValue
from jaywalk_agent.cli import main
from jaywalk_agent.host import platform
from tests.agent_support import config_in

PLIST = Path(__file__).parents[4] / "agent/launchd/jaywalk.agent.zone-blue.plist"


def test_a_machine_has_the_folders_of_its_platform() -> None:
    assert platform.of("darwin").config_dir == Path("/usr/local/etc/wireguard")
    assert platform.of("linux").config_dir == Path("/etc/jaywalk")
    assert platform.PLATFORM is platform.of(sys.platform)


@pytest.mark.parametrize(
    ("words", "flag"),
    [({"relay": "1"}, "--relay"), ({"forward": "1"}, "--forward"), ({"netns": "red"}, "--netns")],
)
def test_an_option_for_linux_alone_is_refused_elsewhere(
    tmp_path: Path, words: dict[str, str], flag: str
) -> None:
    config = config_in(tmp_path, **words)
    config.check_platform_support(platform.LINUX)
    config_in(tmp_path).check_platform_support(platform.DARWIN)
    with pytest.raises(InvalidValue, match=f"{flag} works on Linux only"):
        config.check_platform_support(platform.DARWIN)


def test_the_launchd_job_starts_the_agent_and_leaves_the_tunnels_when_it_ends() -> None:
    job = plistlib.loads(PLIST.read_bytes())
    program, *flags = job["ProgramArguments"]
    arguments = main.build_parser().parse_args(flags)
    assert program == "/usr/local/bin/jaywalk"
    assert (arguments.agent_mode, arguments.zone) == (True, "zone-blue")
    assert job["AbandonProcessGroup"] is True
    assert job["Umask"] == 0o077
    assert job["Label"] == platform.DARWIN.disable[-1].partition("/")[2].format(zone="zone-blue")
