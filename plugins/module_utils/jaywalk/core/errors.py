# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors of this project.

Every error has two parts: the problem, which names the invalid value, and the remedy, which says what the
operator can do.  The library raises; only a module's ``fail_json`` or a command's exit code ends a program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from .text import printable


class JaywalkError(Exception):
    """Base of all errors of this project.

    ``problem`` names the invalid value, ``remedy`` says what to do; neither ever contains a secret.  Both
    are printable, since they may quote what others sent, and operators read them in terminals.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem, self.remedy = (printable(text.replace("\n", " ")) for text in (problem, remedy))
        super().__init__(f"{self.problem}: {self.remedy}" if remedy else self.problem)


class InvalidValue(JaywalkError):
    """A value from a person, a node or the controller does not parse or is not allowed."""


class BadRequest(InvalidValue):
    """An entry of an inbox is no request for its zone; ``reason`` is one word, for metrics."""

    def __init__(self, reason: str, problem: str, remedy: str = "") -> None:
        self.reason = reason
        super().__init__(problem, remedy)


class MissingTool(JaywalkError):
    """A program or a Python library that the node needs is not installed."""

    PACKAGES: ClassVar[Mapping[str, str]] = {
        "wg": "install the package wireguard-tools",
        "ip": "install the package iproute2",
        "nft": "install the package nftables",
        "redis": "install the Python library redis (Debian: python3-redis), or run the module with the "
        "agent's own interpreter",
        "cryptography": "install the Python library cryptography (Debian: python3-cryptography), or run the "
        "module with the agent's own interpreter",
    }

    def __init__(self, tool: str) -> None:
        super().__init__(f"{tool} is missing on this machine", self.PACKAGES.get(tool, f"install {tool}"))


class CommandFailed(JaywalkError):
    """A program exited with an error."""

    def __init__(self, argv: Sequence[str], returncode: int, stderr: str) -> None:
        self.argv = list(argv)
        self.returncode = returncode
        self.stderr = stderr.strip()
        shown = " ".join(argv[:6]) + (" ..." if len(argv) > 6 else "")
        super().__init__(f"'{shown}' ended with exit code {returncode}: {self.stderr or 'no message'}")


class CommandHung(JaywalkError):
    """A program did not exit in time and was killed."""

    def __init__(self, argv: Sequence[str], seconds: float) -> None:
        shown = " ".join(argv[:6]) + (" ..." if len(argv) > 6 else "")
        remedy = "see 'ps' for a stopped or hanging program"
        if "wg" in argv:
            name = next(iter(argv[argv.index("wg") + 2 :]), "all")
            unit = f"jaywalk-wireguard-{'*' if name == 'all' else name}"
            remedy = (
                "userspace WireGuard is stopped or hangs, and carries nothing then: "
                f"'systemctl kill -s KILL {unit}' ends it, and it starts anew"
            )
        super().__init__(f"'{shown}' did not end within {seconds:g} s", remedy)


class ControllerUnreachable(JaywalkError):
    """The controller's address does not reply, or the connection broke."""


class ControllerFull(ControllerUnreachable):
    """The controller replies, and accepts no writes because its memory is full."""


class ControllerCrowded(ControllerUnreachable):
    """The controller accepts no further connection."""


class ControllerDenied(JaywalkError):
    """The controller refuses access: wrong password, unknown user, or a key outside the user's ACL."""


class NoAnswer(JaywalkError):
    """No supervisor replied to a request in time."""


class RequestRefused(JaywalkError):
    """A supervisor refused a request; ``code`` is for programs, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)
