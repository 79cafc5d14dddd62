# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes an incomplete transaction from the end of Redis's append-only file, before Redis starts.

A Redis before Valkey's pull request 4342 drops a transaction without its end in memory only.  The beginning
stays in the file, and the start after the next one executes it: half of a lost commit comes back.  This
program removes only such a tail and keeps a copy of it; Redis reports a file with any other damage, and
refuses to start.

Imports nothing of this library: the role ``controller`` makes Redis's unit run it as a separate file.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

# A transaction holds one commit; a longer tail is something else.
MAX_TAIL_BYTES = 64 * 2**20

_VALID_UP_TO = re.compile(r"\bok_up_to=(\d+)")


class _Torn(Exception):
    """The file ends within a command."""


class _Broken(Exception):
    """The data is not a command."""


def mend(folder: Path, program: str) -> str:
    """Repairs the newest file of ``folder`` (``appendonlydir``); returns a sentence if it did, else "".

    ``program`` is a Redis or Valkey server, or its ``redis-check-aof``.  Redis must not run.  Raises
    ``OSError`` if the tail cannot be saved; the file is then unchanged.
    """
    file = newest(folder)
    valid = _valid_up_to(file, program) if file is not None else None
    if file is None or valid is None or not 0 < file.stat().st_size - valid <= MAX_TAIL_BYTES:
        return ""
    with file.open("rb") as stream:
        stream.seek(valid)
        tail = stream.read()
    if not is_torn(tail):
        return ""
    kept = file.with_name(f"{file.name}.torn-{valid}")
    with kept.open("wb") as stream:
        stream.write(tail)
        stream.flush()
        os.fsync(stream.fileno())
    with file.open("r+b") as stream:
        stream.truncate(valid)
        os.fsync(stream.fileno())
    return f"{file} ended inside a transaction: cut its last {len(tail)} bytes off, which {kept} keeps"


def newest(folder: Path) -> Path | None:
    """The file that Redis appends to, from the manifest; None if there is none."""
    # Not glob(), which treats an unreadable folder as empty.
    manifests = [file for file in folder.iterdir() if file.suffix == ".manifest"] if folder.exists() else []
    if len(manifests) != 1:
        return None
    found: list[tuple[int, str]] = []
    for line in manifests[0].read_text(encoding="utf-8", errors="replace").splitlines():
        words = shlex.split(line)
        entry = dict(zip(words[::2], words[1::2]))
        if entry.get("type") == "i" and "file" in entry and entry.get("seq", "").isdigit():
            found.append((int(entry["seq"]), entry["file"]))
    return folder / os.path.basename(max(found)[1]) if found else None


def _valid_up_to(file: Path, program: str) -> int | None:
    """The offset up to which the checker finds complete commands and transactions; None if unknown."""
    with file.open("r+b"):
        pass  # If the open fails, the checker does not say why.
    # A server that runs under this name is the checker.
    argv = ["redis-check-aof", str(file)]
    done = subprocess.run(  # pylint: disable=ansible-bad-function
        argv, executable=program, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    said = _VALID_UP_TO.search(done.stdout)
    return int(said.group(1)) if said else None


def is_torn(tail: bytes) -> bool:
    """Whether ``tail`` is the beginning of exactly one command or transaction."""
    place, begun = 0, False
    try:
        while place < len(tail):
            name, place = _command(tail, place)
            if begun == (name in (b"MULTI", b"EXEC")):
                return False
            begun = True
    except _Torn:
        return True
    except _Broken:
        return False
    return begun


def _command(data: bytes, place: int) -> tuple[bytes, int]:
    """The name of the command at offset ``place``, and the offset of its end."""
    count, place = _number(data, place, b"*")
    words: list[bytes] = []
    while len(words) < count:
        length, place = _number(data, place, b"$")
        word = data[place : place + length]
        if not b"\r\n".startswith(data[place + length : place + length + 2]):
            raise _Broken
        place += length + 2
        if place > len(data):
            raise _Torn
        words.append(word)
    if not words:
        raise _Broken
    return words[0].upper(), place


def _number(data: bytes, place: int, mark: bytes) -> tuple[int, int]:
    line = data[place : place + 16]
    whole = re.match(rb"(.)([0-9]{1,10})\r\n", line)
    if whole and whole.group(1) == mark:
        return int(whole.group(2)), place + whole.end()
    if len(line) < 16 and re.fullmatch(rb"%b[0-9]{0,10}\r?" % re.escape(mark) + rb"|", line):
        raise _Torn
    raise _Broken


def damage(folder: Path, program: str) -> str:
    """A sentence about a file that is broken and not just torn, so that Redis will not start; else ""."""
    file = newest(folder)
    valid = _valid_up_to(file, program) if file is not None else None
    size = file.stat().st_size if file is not None else 0
    if valid is None or valid >= size:
        return ""
    return (
        f"{file} is damaged at byte {valid} of {size}, and Redis refuses to start on it: restore it from a "
        "backup, or have 'redis-check-aof --fix' cut all off from there, as docs/controller-data.md says"
    )


def main() -> int:
    """``aof.py APPENDONLYDIR``, with ``redis-check-aof`` on the PATH; 1 on an error."""
    if len(sys.argv) != 2:
        print("aof.py: name one folder, Redis's appendonlydir", file=sys.stderr)  # pylint: disable=ansible-bad-function
        return 2
    folder = Path(sys.argv[1])
    try:
        said = mend(folder, "redis-check-aof") or damage(folder, "redis-check-aof")
    except OSError as error:
        print(f"aof.py: {_unusable(folder, error)}", file=sys.stderr)  # pylint: disable=ansible-bad-function
        return 1
    except ValueError as error:
        print(  # pylint: disable=ansible-bad-function
            f"aof.py: the manifest in {folder} does not parse ({error}): restore it from a backup",
            file=sys.stderr,
        )
        return 1
    if said:
        print(said)  # pylint: disable=ansible-bad-function
    return 0


def _unusable(folder: Path, error: OSError) -> str:
    """Describes what is wrong with the folder or a file in it, and what to do."""
    what = error.filename or folder
    if what == "redis-check-aof":
        return "there is no redis-check-aof on the PATH: install redis-tools"
    if not isinstance(error, PermissionError):
        return f"cannot use {what} ({error.strerror})"
    try:
        owner = f"user {folder.parent.stat().st_uid}"
    except OSError:
        owner = "the user of Redis"
    return (
        f"user {os.geteuid()} may not use {what} ({error.strerror}): its owner has to be {owner}, "
        f"whose folder {folder.parent} is: 'chown -R --reference={folder.parent} {folder}'"
    )


if __name__ == "__main__":
    sys.exit(main())  # pylint: disable=ansible-bad-function
