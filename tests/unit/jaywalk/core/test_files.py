# SPDX-License-Identifier: GPL-3.0-or-later
"""Private files: never half written, never readable for others, never a reason to leak."""

from __future__ import annotations

import resource
import stat
import threading
from pathlib import Path

import pytest

from jaywalk.core import files
from jaywalk.core.errors import InvalidValue, JaywalkError


def test_reader_sees_the_old_or_the_new_and_never_a_half(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    texts = ["a" * 200_000, "b" * 200_000]
    files.write_private(str(path), texts[0])
    done = threading.Event()
    seen: set[str] = set()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for turn in range(100):
            files.write_private(str(path), texts[turn % 2])
    finally:
        done.set()
        reader.join()
    assert seen <= set(texts)
    assert [each.name for each in tmp_path.iterdir()] == ["snapshot.json"]


def test_file_is_for_its_owner_alone_whatever_it_was_before(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("old")
    path.chmod(0o644)
    files.write_private(str(path), "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == "new"


def test_write_that_breaks_off_keeps_the_old_content_and_leaves_no_crumbs(tmp_path: Path) -> None:
    target = tmp_path / "snapshot.json"
    files.write_private(str(target), "small")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(JaywalkError, match=r"cannot write .*snapshot.json \(File too large\)"):
            files.write_private(str(target), "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert target.read_text() == "small"
    assert [each.name for each in tmp_path.iterdir()] == ["snapshot.json"]


def test_text_that_cannot_be_encoded_leaves_no_crumbs(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        files.write_private(str(tmp_path / "file"), "\ud800")
    assert list(tmp_path.iterdir()) == []


def test_secret_is_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("s3cret\nsecond line\n")
    assert files.read_secret(str(path), "password") == "s3cret"


def test_secret_that_is_not_there_is_named_by_path(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\nlate\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder").mkdir()
    for name in ("absent", "empty", "binary", "folder"):
        with pytest.raises(InvalidValue) as caught:
            files.read_secret(str(tmp_path / name), "controller's password")
        assert str(tmp_path / name) in str(caught.value)
        assert caught.value.remedy


def test_endless_file_does_not_fill_the_memory() -> None:
    assert len(files.read_secret("/dev/zero", "password")) <= files.MAX_SECRET_CHARACTERS
