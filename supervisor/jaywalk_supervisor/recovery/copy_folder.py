# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder in which a supervisor keeps its copies, a file each: for each zone, and for what all share.

A file that is no such copy is never used and never overwritten: it is put aside under another name, and the
log says so.  A disk that takes nothing costs a warning, and each copy is tried again.
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

# Of one copy; a larger file is none of ours.
MAX_BYTES = 64 * 1024 * 1024
# The name of the copy of what all zones share; a zone's name holds no dot.
SHARED = "shared.all"
_SUFFIX = ".json"

_CURE = (
    "check free space, owner and mode; where the folder was removed under a service that runs, "
    "'systemctl restart jaywalk-supervisor' makes it anew"
)
log = logging.getLogger(__name__)
Copy = TypeVar("Copy")


class CopyFolder:
    """The copies of one controller, under a supervisor's state folder.

    ``error`` says why the last copy could not be written, and is empty while that works.
    """

    def __init__(self, state_dir: str, where: ControllerAddress) -> None:
        self._parent = Path(state_dir).absolute() / "copies"
        self.path = self._parent / _folder_name(where)
        self.error = ""
        self._kept: set[str] = set()

    def zones(self) -> dict[str, ZoneCopy]:
        """The copies of all zones that are there and can be read."""
        names = [file.name.removesuffix(_SUFFIX) for file in self._files() if file.name != SHARED + _SUFFIX]
        read = {name: self._read(name, partial(ZoneCopy.from_text, name)) for name in names}
        return {name: copy for name, copy in read.items() if copy is not None}

    def shared(self) -> SharedCopy:
        """The copy of what all zones share; an empty one where there is none."""
        return self._read(SHARED, SharedCopy.from_text) or SharedCopy()

    def others(self) -> list[str]:
        """Folders of other controllers, which this supervisor does not use."""
        try:
            return sorted(str(each) for each in self._parent.iterdir() if each.is_dir() and each != self.path)
        except OSError:
            return []

    def write(self, name: str, text: str) -> bool:
        """Replaces the copy ``name``; returns whether that could be done, and warns once where not."""
        if name in self._kept:
            return False
        try:
            self._parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
            write_private(str(self._file(name)), text)
        except (JaywalkError, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            self._warn(f"cannot write the copy of {name} to {self.path} ({why}): {_CURE}")
            return False
        if self.error:
            log.info("copies of the zones are written to %s again", self.path)
        self.error = ""
        return True

    def is_there(self, name: str) -> bool:
        """Whether the copy ``name`` lies in the folder."""
        return self._file(name).exists()

    def drop(self, name: str) -> None:
        """Removes the copy ``name``, if there is one."""
        try:
            self._file(name).unlink(missing_ok=True)
        except OSError as error:
            self._warn(f"cannot remove {self._file(name)} ({error.strerror})")

    def set_aside(self, name: str, why: str) -> str:
        """Gives the file of a copy another name, under which nobody uses it; returns its path.

        Empty where there is no such file, or it cannot be renamed.
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
            return sorted(each for each in self.path.iterdir() if each.name.endswith(_SUFFIX))
        except FileNotFoundError:
            return []
        except OSError as error:
            self._warn(f"cannot read {self.path} ({error.strerror})")
            return []

    def _read(self, name: str, parse: Callable[[str], Copy]) -> Copy | None:
        file = self._file(name)
        try:
            if file.exists() and not file.is_file():
                raise InvalidValue("it is no regular file")  # one of another kind may be read for ever
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
                log.error("the copy %s is not used: %s; it lies in %s from now on", file, why, aside)
            else:
                log.error("the copy %s is not used: %s; it stays, and no new one is made", file, why)
                self._kept.add(name)
        return None

    def _warn(self, error: str) -> None:
        if not self.error:  # one that lasts differs from file to file
            log.warning("%s: what is in the controller alone would be lost with it", error)
        self.error = error


def _folder_name(where: ControllerAddress) -> str:
    """A name for a controller that is a file's name, and another one for each controller."""
    text = str(where)
    plain = re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.")[:80]
    return (
        plain
        if plain == text.replace(":", "-")
        else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    )
