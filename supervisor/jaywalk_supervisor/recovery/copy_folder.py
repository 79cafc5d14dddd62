# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder in which a supervisor keeps its copies: one file per zone, and one for what all zones share.

A file that is not a valid copy is neither used nor overwritten: it is renamed, and a log line reports it.  If
the disk accepts no data, a warning is logged and each copy is written again later.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from jaywalk.controller.address import ControllerAddress
from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.core.files import write_private

from .copies import SharedCopy, ZoneCopy

# Limit of one copy; no supervisor writes a larger file.
MAX_BYTES = 64 * 1024 * 1024
# Name of the copy of what all zones share; the name of a zone has no dot.
SHARED = "shared.all"
_SUFFIX = ".json"

_REMEDY = (
    "check free space, owner and mode; where the folder was removed under a service that runs, "
    "'systemctl restart jaywalk-supervisor' creates it again"
)
log = logging.getLogger(__name__)
Copy = TypeVar("Copy")


class CopyFolder:
    """The copies of one controller, in a supervisor's state folder.

    ``error`` is the reason why the last copy could not be written, or empty.
    """

    def __init__(self, state_dir: str, where: ControllerAddress) -> None:
        self._parent = Path(state_dir).absolute() / "copies"
        self.path = self._parent / _folder_name(where)
        self.error = ""
        self._blocked: set[str] = set()

    def zones(self) -> dict[str, ZoneCopy]:
        """Reads the valid copies of all zones."""
        names = [file.name.removesuffix(_SUFFIX) for file in self._files() if file.name != SHARED + _SUFFIX]
        read = {name: self._read(name, partial(ZoneCopy.from_text, name)) for name in names}
        return {name: copy for name, copy in read.items() if copy is not None}

    def shared(self) -> SharedCopy:
        """Reads the copy of what all zones share; returns an empty one if there is none."""
        return self._read(SHARED, SharedCopy.from_text) or SharedCopy()

    def other_folders(self) -> list[str]:
        """Returns the folders of other controllers, which this supervisor does not use."""
        try:
            folders = (path for path in self._parent.iterdir() if path.is_dir() and path != self.path)
            return sorted(str(path) for path in folders)
        except OSError:
            return []

    def write(self, name: str, text: str) -> bool:
        """Replaces the copy ``name``; returns whether that succeeded, and warns once if not."""
        if name in self._blocked:
            return False
        try:
            self._parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
            write_private(str(self._file(name)), text)
        except (JaywalkError, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            self._warn(f"cannot write the copy of {name} to {self.path} ({why}): {_REMEDY}")
            return False
        if self.error:
            log.info("copies of the zones are written to %s again", self.path)
        self.error = ""
        return True

    def has(self, name: str) -> bool:
        """Whether the folder has a copy ``name``."""
        return self._file(name).exists()

    def drop(self, name: str) -> None:
        """Removes the copy ``name``, if there is one."""
        try:
            self._file(name).unlink(missing_ok=True)
        except OSError as error:
            self._warn(f"cannot remove {self._file(name)} ({error.strerror})")

    def set_aside(self, name: str, why: str) -> str:
        """Renames the file of a copy so that it is no longer used; returns its new path.

        Returns "" if there is no such file or it cannot be renamed.
        """
        file = self._file(name)
        aside = file.with_name(f"{file.name}.{why}-{time.time_ns() // 1_000_000}")
        try:
            file.rename(aside)
        except FileNotFoundError:
            return ""
        except OSError as error:
            self._warn(f"cannot rename {file} ({error.strerror})")
            return ""
        return str(aside)

    def _file(self, name: str) -> Path:
        return self.path / f"{name}{_SUFFIX}"

    def _files(self) -> list[Path]:
        try:
            return sorted(path for path in self.path.iterdir() if path.name.endswith(_SUFFIX))
        except FileNotFoundError:
            return []
        except OSError as error:
            self._warn(f"cannot read {self.path} ({error.strerror})")
            return []

    def _read(self, name: str, parse: Callable[[str], Copy]) -> Copy | None:
        file = self._file(name)
        try:
            if file.exists() and not file.is_file():
                raise InvalidValue("it is no regular file")  # reading another kind of file may never end
            with file.open(encoding="utf-8") as stream:
                text = stream.read(MAX_BYTES + 1)
            if len(text) > MAX_BYTES:
                raise InvalidValue("it is too large")
            return parse(text)
        except FileNotFoundError:
            return None
        except (OSError, InvalidValue, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            if aside := self.set_aside(name, "unusable"):
                log.error("the copy %s is not used: %s; it was renamed to %s", file, why, aside)
            else:
                log.error(
                    "the copy %s is not used: %s; it cannot be renamed, so no new copy is written", file, why
                )
                self._blocked.add(name)
        return None

    def _warn(self, error: str) -> None:
        if not self.error:  # the texts of a lasting error differ from file to file
            log.warning("%s: zones would be lost together with the controller", error)
        self.error = error


def _folder_name(where: ControllerAddress) -> str:
    """Returns a file name that is unique for each controller."""
    text = str(where)
    plain = re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.")[:80]
    return (
        plain
        if plain == text.replace(":", "-")
        else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    )
