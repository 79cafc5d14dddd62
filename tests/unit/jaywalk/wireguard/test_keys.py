# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys as ``wg`` itself makes them: where they lie, how they are named, and that secrets stay secret."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from jaywalk.core import key_format
from jaywalk.core.errors import InvalidValue, JaywalkError, MissingTool
from jaywalk.core.runner import SubprocessRunner
from jaywalk.wireguard import keys
from tests import strategies

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


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "peer",
        strategies.key(1)[:-1],
        strategies.key(1) + "=",
        strategies.key(1) + "\n",
        " " + strategies.key(1),
        base64.b64encode(b"x" * 31).decode(),
        base64.b64encode(b"x" * 33).decode(),
        base64.b64encode(bytes(32)).decode(),
        "é" * 44,
        "\ud800" * 44,
        "A" * 100_000,
    ],
)
def test_what_is_not_32_bytes_of_base64_is_no_public_key(text: object) -> None:
    with pytest.raises(InvalidValue) as caught:
        key_format.public_key(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250


def test_key_has_one_spelling_only() -> None:
    """The last digit of a key's base64 has two bits to spare: four spellings would be four peers."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    good = strategies.key(1)
    accepted = []
    for last in alphabet:
        candidate = good[:-2] + last + "="
        try:
            accepted.append(key_format.public_key(candidate))
        except InvalidValue:
            continue
        assert base64.b64encode(base64.b64decode(candidate)).decode() == candidate
    assert len(accepted) == 16
    assert good in accepted


def test_missing_wg_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match=r"wg is missing.*wireguard-tools"):
        keys.ensure_key_file(RUNNER, str(tmp_path / "wg.key"))
    assert not list(tmp_path.iterdir())


def test_key_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JaywalkError, match="cannot write"):
        keys.ensure_key_file(RUNNER, str(tmp_path / "file" / "wg.key"))
