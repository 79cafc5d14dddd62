# SPDX-License-Identifier: GPL-3.0-or-later
"""Key files with the keys that wg generates: format, modes, errors that keep secrets."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from jaywalk.core import key_format
from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.core.runner import SubprocessRunner
from jaywalk.wireguard import keys

RUNNER = SubprocessRunner()


def test_node_makes_its_key_once_and_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "zone-blue.key"
    public, made = keys.ensure_key_file(RUNNER, str(path))
    assert made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert keys.derive(RUNNER, path.read_text().strip()) == public
    before = path.read_bytes()
    assert keys.ensure_key_file(RUNNER, str(path)) == (public, False)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_key_of_wg_is_a_key_of_ours() -> None:
    private = keys.generate(RUNNER)
    assert key_format.private_key(private, "here") == private
    public = keys.derive(RUNNER, private)
    assert key_format.public_key(public) == public
    assert key_format.from_url_form(key_format.url_form(public)) == public
    assert key_format.from_url_form(key_format.url_form(public).rstrip("=")) == public
    assert set("/+").isdisjoint(key_format.url_form(public))


@pytest.mark.parametrize("damage", ["cut", "doubled", "tail", "text", "zero", "binary"])
def test_broken_key_file_is_an_error_that_tells_nothing_and_changes_nothing(
    tmp_path: Path, damage: str
) -> None:
    private = keys.generate(RUNNER)
    broken = {
        "cut": private[:-2],
        "doubled": private * 2,
        "tail": private[:-2] + ("B" if private[-2] != "B" else "C") + "=",
        "text": "my secret",
        "zero": base64.b64encode(bytes(32)).decode(),
        "binary": private[:20] + "\udcff",
    }[damage]
    path = tmp_path / "wg.key"
    path.write_bytes(broken.encode(errors="surrogateescape"))
    with pytest.raises(InvalidValue) as caught:
        keys.ensure_key_file(RUNNER, str(path))
    assert str(path) in str(caught.value)
    for text in (str(caught.value), repr(caught.value)):
        assert private[:8] not in text
        assert "my secret" not in text
    assert path.read_bytes() == broken.encode(errors="surrogateescape")


def test_key_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JaywalkError, match="cannot write"):
        keys.ensure_key_file(RUNNER, str(tmp_path / "file" / "wg.key"))
