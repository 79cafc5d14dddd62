# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's own key, with the program wg."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from jaywalk.core.errors import InvalidValue
from jaywalk.core.runner import SubprocessRunner
from jaywalk.wireguard import keys
from tests.agent_support import config_in


def test_a_private_key_given_as_the_public_one_is_not_quoted(tmp_path: Path) -> None:
    private = keys.generate(SubprocessRunner())
    config = config_in(tmp_path, private_key=private, public_key=private)
    with pytest.raises(InvalidValue, match="does not belong to the private key") as raised:
        config.own_key(SubprocessRunner())
    assert private not in str(raised.value)


def test_makes_a_key_once(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    first = config.own_key(SubprocessRunner())
    assert config.own_key(SubprocessRunner()) == first
    assert stat.S_IMODE(config.private_key_file.stat().st_mode) == 0o600


def test_a_key_given_as_text_goes_to_a_file_that_only_root_reads(tmp_path: Path) -> None:
    runner = SubprocessRunner()
    private = keys.generate(runner)
    config = config_in(tmp_path, private_key=private)
    assert config.own_key(runner) == keys.derive(runner, private)
    assert config.private_key_file.read_text() == private + "\n"
    assert stat.S_IMODE(config.private_key_file.stat().st_mode) == 0o600
    written = config.private_key_file.stat().st_ino
    config.own_key(runner)
    assert config.private_key_file.stat().st_ino == written


def test_a_public_key_that_belongs_to_another_private_key_is_refused(tmp_path: Path) -> None:
    runner = SubprocessRunner()
    other = keys.derive(runner, keys.generate(runner))
    with pytest.raises(InvalidValue, match="does not belong"):
        config_in(tmp_path, public_key=other).own_key(runner)
