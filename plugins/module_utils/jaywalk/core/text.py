# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes texts of others fit for terminals, logs and systemd."""

from __future__ import annotations


def printable(text: str) -> str:
    """``text`` with a question mark for each character that is not printable.

    Such are line breaks, the escape sequences of terminals, and marks that change the direction of writing.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def printable_lines(text: str) -> str:
    """As :func:`printable`, with the line breaks ``\\n`` left in."""
    return "\n".join(map(printable, text.split("\n")))


def show(text: str) -> None:
    """Prints a text, of one line or more, that may hold texts of others: for commands, never in a module."""
    print(printable_lines(text))  # pylint: disable=ansible-bad-function
