# SPDX-License-Identifier: GPL-3.0-or-later
"""A torn tail of an append-only file is cut off and kept; whatever else is wrong stays as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaywalk.service import aof_repair

words = st.lists(st.binary(max_size=12), min_size=1, max_size=4).filter(
    lambda each: each[0].upper() not in (b"MULTI", b"EXEC")
)


def command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def transaction(*commands: list[bytes]) -> bytes:
    return command(b"MULTI") + b"".join(command(*each) for each in commands) + command(b"EXEC")


GOOD = command(b"SELECT", b"0") + transaction([b"SET", b"a", b"1"])
ODD = b"*1\r\n$4\r\nEXEC\r\n"
"""A value that looks like a command."""
COMMIT = transaction([b"HSET", b"{z}:meta", b"rev", b"2"], [b"HSET", b"{z}:peers", b"key", ODD])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "appendonly.aof.manifest").write_text(
        "file appendonly.aof.1.base.rdb seq 1 type b\n"
        "file appendonly.aof.9.incr.aof seq 9 type i\n"
        "file appendonly.aof.10.incr.aof seq 10 type i\n"
    )
    (tmp_path / "appendonly.aof.9.incr.aof").write_bytes(COMMIT[:-1])
    return tmp_path


def mended(folder: Path, tail: bytes) -> tuple[bytes, str]:
    """What is left of the good file with ``tail`` behind it, and what was said."""
    file = folder / "appendonly.aof.10.incr.aof"
    file.write_bytes(GOOD + tail)
    program = shutil.which("redis-server")
    assert program is not None
    said = aof_repair.mend(folder, program)
    return file.read_bytes(), said


@given(st.lists(words, max_size=3), st.data())
def test_any_beginning_of_a_transaction_is_torn(commands: list[list[bytes]], data: st.DataObject) -> None:
    whole = transaction(*commands)
    assert not aof_repair.is_torn(whole)
    assert aof_repair.is_torn(whole[: data.draw(st.integers(1, len(whole) - 1))])


@given(words, st.data())
def test_any_beginning_of_a_command_is_torn(each: list[bytes], data: st.DataObject) -> None:
    whole = command(*each)
    assert aof_repair.is_torn(whole[: data.draw(st.integers(1, len(whole) - 1))])


def test_a_commit_that_is_torn_anywhere_is_cut_off_and_kept(folder: Path) -> None:
    for end in range(1, len(COMMIT)):
        left, said = mended(folder, COMMIT[:end])
        assert left == GOOD
        assert f"cut its last {end} bytes off" in said
        assert (folder / f"appendonly.aof.10.incr.aof.torn-{len(GOOD)}").read_bytes() == COMMIT[:end]
    assert (folder / "appendonly.aof.9.incr.aof").read_bytes() == COMMIT[:-1], "Redis appends to the other"


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        COMMIT,
        b"garbage" + COMMIT[:-5],
        b"\0" * 60,
        COMMIT.replace(b"$4\r\nHSET", b"$9\r\nHSET", 1) + COMMIT[:-5],
        COMMIT[: COMMIT.index(ODD) - 60] + b"xx" + COMMIT,
        command(b"MULTI") + command(b"SET", b"b", b"2") + COMMIT,
        command(b"MULTI") + command(b"SET", b"b", b"2") + COMMIT[:-5],
        command(b"MULTI") + b"*0\r\n",
    ],
)
def test_what_is_not_just_torn_is_left_alone(folder: Path, tail: bytes) -> None:
    assert mended(folder, tail) == (GOOD + tail, "")
    assert not list(folder.glob("*.torn-*"))


def run(folder: Path, user: int = 0, **environment: str) -> tuple[int, str]:
    """The program as the unit of Redis runs it."""
    # Another user may reach neither the checkout nor its Python.
    program = folder.parent / "aof.py"
    shutil.copy(str(aof_repair.__file__), program)
    program.chmod(0o644)
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") if user else sys.executable
    drop = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
    done = subprocess.run(
        [*drop, str(python), "-I", "-B", str(program), str(folder)],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def public(tmp_path: Path) -> Iterator[Path]:
    """A folder of one log that another user reaches."""
    with tempfile.TemporaryDirectory(prefix="jwl-aof-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        folder = Path(name) / "appendonlydir"
        folder.mkdir()
        (folder / "appendonly.aof.manifest").write_text("file appendonly.aof.1.incr.aof seq 1 type i\n")
        (folder / "appendonly.aof.1.incr.aof").write_bytes(GOOD)
        yield folder


def test_a_log_that_is_damaged_amid_is_named_and_left_alone(public: Path) -> None:
    file = public / "appendonly.aof.1.incr.aof"
    broken = GOOD + b"\0" * 40 + GOOD
    file.write_bytes(broken)
    code, said = run(public)
    assert code == 0
    assert f"{file} is damaged at byte {len(GOOD)} of {len(broken)}" in said
    assert "redis-check-aof --fix" in said
    assert file.read_bytes() == broken


def test_a_folder_that_is_not_there_yet_is_nothing_to_speak_of(public: Path) -> None:
    assert run(public / "none") == (0, "")


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")


@as_root
def test_a_wrong_owner_is_told_in_a_sentence(public: Path) -> None:
    public.chmod(0o700)
    code, said = run(public, user=65534)
    assert code == 1
    assert said.startswith(f"aof.py: user 65534 may not use {public} (Permission denied)")
    assert "chown -R" in said
    assert len(said.splitlines()) == 1


@as_root
def test_a_tail_that_cannot_be_kept_is_told_in_a_sentence_and_stays(public: Path) -> None:
    file = public / "appendonly.aof.1.incr.aof"
    file.write_bytes(GOOD + COMMIT[:-3])
    for each in (public, file, public / "appendonly.aof.manifest"):
        each.chmod(0o755)
    code, said = run(public, user=65534)
    assert code == 1
    assert "may not use" in said
    assert file.read_bytes() == GOOD + COMMIT[:-3]


def test_a_manifest_that_names_no_file_or_does_not_parse_is_told_in_a_sentence(public: Path) -> None:
    manifest = public / "appendonly.aof.manifest"
    manifest.write_text("file missing.aof seq 1 type i\n")
    code, said = run(public)
    assert code == 1
    assert "missing.aof" in said
    manifest.write_text('file "appendonly.aof.1.incr.aof seq 1 type i\n')
    code, said = run(public)
    assert code == 1
    assert "does not parse" in said


def test_a_missing_checker_is_told_in_a_sentence(public: Path, tmp_path: Path) -> None:
    code, said = run(public, PATH=str(tmp_path))
    assert code == 1
    assert "no redis-check-aof" in said


def test_a_folder_without_a_log_is_left_alone(tmp_path: Path) -> None:
    assert aof_repair.mend(tmp_path / "none", "redis-server") == ""
    (tmp_path / "a.manifest").write_text("file a.1.base.rdb seq 1 type b\n")
    assert aof_repair.mend(tmp_path, "redis-server") == ""
