# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes files atomically and privately, removes them, and reads secrets and settings."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from pathlib import Path

from .errors import InvalidValue, JaywalkError
from .ownership import share

_LIKE_KEY = re.compile(r"[A-Za-z0-9+/]{42,43}=?")
Identity = tuple[int, int, int, int]
# A longer line, for example of a device file, is not a secret of this project.
MAX_SECRET_CHARACTERS = 4096


def remove(*paths: Path) -> None:
    """Removes files, as far as they are there; raises ``JaywalkError``."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise JaywalkError(f"cannot remove {path} ({error.strerror})", "remove it by hand") from None


def write_private(path: str, text: str) -> None:
    """Writes ``text`` to ``path`` with mode 0600 by a temporary file beside it and a rename.

    The old content stays until the new one is completely on disk.  Raises ``JaywalkError`` if the file cannot
    be written.
    """
    folder = os.path.dirname(os.path.abspath(path))
    temporary = ""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".jaywalk-", dir=folder)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            share(stream.fileno(), folder)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        _sync_folder(folder)
    except OSError as error:
        raise JaywalkError(
            f"cannot write {path} ({error.strerror})", "check free space, owner and mode"
        ) from None
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def identity(path: Path) -> Identity | None:
    """A value that differs for another file of that name or other content; None if there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _sync_folder(folder: str) -> None:
    """Makes a rename in ``folder`` survive a power loss (fsync(2))."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_secret(path: str, what: str) -> str:
    """Returns the first line of a secret file; ``what`` names the secret in errors, never its content.

    Raises ``InvalidValue`` if the file is missing, unreadable, empty or not text.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            secret = stream.readline(MAX_SECRET_CHARACTERS).strip()
    except OSError as error:
        # If somebody gives the secret instead of its file's name, the error must not contain it.
        named = path if os.sep in path and not _LIKE_KEY.fullmatch(path) else "the file that was named"
        raise InvalidValue(
            f"cannot read the {what} in {named} ({error.strerror})", "check path and mode"
        ) from None
    except UnicodeDecodeError:
        raise InvalidValue(f"{path} holds no text", f"put the {what} on its first line") from None
    if not secret:
        raise InvalidValue(f"{path} is empty", f"put the {what} on its first line")
    return secret


def read_variables(path: str) -> dict[str, str]:
    """The variables of a unit's ``EnvironmentFile`` (systemd.exec(5)); empty if there is no such file.

    Raises ``JaywalkError`` if the file cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            words = shlex.split(stream.read(), comments=True)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise JaywalkError(f"cannot read the settings {path} ({error.strerror})", "run as root") from None
    except ValueError:
        raise InvalidValue(
            f"the settings {path} do not parse", "close each quotation mark, and write one NAME=value a line"
        ) from None
    return dict(word.split("=", 1) for word in words if "=" in word)
