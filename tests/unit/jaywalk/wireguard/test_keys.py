# SPDX-License-Identifier: GPL-3.0-or-later
"""The format of public keys, and the error for a machine without wg."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from jaywalk.core import key_format
from jaywalk.core.errors import InvalidValue, MissingTool
from jaywalk.core.runner import SubprocessRunner
from jaywalk.wireguard import keys
from tests import strategies

RUNNER = SubprocessRunner()


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
