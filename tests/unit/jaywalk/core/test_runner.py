# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that are run to their end, and those that have none."""

from __future__ import annotations

import pytest

from jaywalk.core.errors import CommandHung, MissingTool
from jaywalk.core.runner import Finished, SubprocessRunner


def test_what_a_program_says_and_its_exit_code_are_returned() -> None:
    assert SubprocessRunner().run(["sh", "-c", "cat; echo err >&2; exit 3"], "in") == Finished(
        3, "in", "err\n"
    )


def test_a_program_without_input_gets_none_of_ours() -> None:
    assert SubprocessRunner().run(["cat"]) == Finished(0, "", "")


def test_a_program_that_hangs_is_ended_and_named() -> None:
    with pytest.raises(CommandHung, match=r"'sleep 600' did not end within 0\.1 s"):
        SubprocessRunner(0.1).run(["sleep", "600"])


def test_a_program_that_somebody_else_kills_does_not_count_as_hanging() -> None:
    assert SubprocessRunner().run(["sh", "-c", "kill -9 $$"]).returncode == -9


def test_a_missing_program_is_named() -> None:
    with pytest.raises(MissingTool, match="jaywalk-no-such-tool"):
        SubprocessRunner().run(["jaywalk-no-such-tool"])
