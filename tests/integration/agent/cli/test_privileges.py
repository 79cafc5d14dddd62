# SPDX-License-Identifier: GPL-3.0-or-later
"""What an ordinary user is told: that root is needed, and nothing that is not so."""

from __future__ import annotations

import os
import tempfile
import traceback
from pathlib import Path

import pytest

from jaywalk_agent.cli import main

NOBODY = 65534


def typed_by_nobody(argv: list[str]) -> tuple[int, str]:
    """The exit code and the standard error of a command that an ordinary user types."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.dup2(writer, 1)
            os.dup2(writer, 2)
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            with os.fdopen(2, "w", closefd=False) as stream, pytest.MonkeyPatch.context() as patch:
                patch.setattr("sys.stderr", stream)
                patch.setattr("logging.basicConfig", lambda **_: None)
                try:
                    code = main.main(argv)
                except BaseException:
                    traceback.print_exc(file=stream)
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as stream:
        text = stream.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become an ordinary user")
@pytest.mark.parametrize(
    "command", [name for name in main.COMMANDS if name not in ("agent", "config", "keygen")]
)
def test_an_ordinary_user_hears_that_root_is_needed(command: str, tmp_path: Path) -> None:
    argv = [command, "--state-dir", str(tmp_path), "--controller", "127.0.0.1:1"]
    assert typed_by_nobody(argv) == (1, f"jaywalk: 'jaywalk {command}' needs root: run it with sudo\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become an ordinary user")
def test_an_ordinary_user_may_make_a_key() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o777)
        code, _ = typed_by_nobody(["keygen", "--private-key-file", f"{folder}/key"])
        assert code == 0
        assert Path(f"{folder}/key").stat().st_uid == NOBODY
