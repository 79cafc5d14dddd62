# SPDX-License-Identifier: GPL-3.0-or-later
"""Parses command lines like the original's; errors never quote a value.

A flag has one dash or two, and its value after ``=`` or as the next word.  A private key or a password may be
on the line, so an error names the flag or the position of a word, and never the word itself.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from ..core import validation
from ..core.errors import InvalidValue

# The exit code for a command line that does not parse.
USAGE = 2
_FLAG = re.compile(r"--?([A-Za-z][A-Za-z0-9-]*)(=.*)?", re.DOTALL)
# A flag's name, and not the end of a password.
_PLAIN_FLAG = re.compile(r"--[a-z]+(-[a-z]+)*")
_WORD = "word {} of the command line"


class ArgumentParser(argparse.ArgumentParser):
    """argparse without abbreviations and without quotations; sub-parsers are of this class too.

    ``flags`` are its own by name, with two dashes, and ``commands`` its sub-parsers by name.  Its methods
    add both, so it takes no argument groups.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        self.flags: dict[str, argparse.Action] = {}
        self._subparsers_action: argparse.Action | None = None
        super().__init__(*args, **{**more, "allow_abbrev": False})
        for parent in more.get("parents", ()):
            self.flags.update(parent.flags)

    @property
    def commands(self) -> Mapping[str, ArgumentParser]:
        """The sub-parsers by name."""
        choices: Any = self._subparsers_action.choices if self._subparsers_action is not None else None
        return choices or {}

    def add_argument(self, *names: str, **more: Any) -> argparse.Action:
        """As argparse's, but an error about the value never quotes it."""
        if "type" in more or "choices" in more:
            more["type"] = _unquoted(more.get("type", str), more.get("choices"))
        action = super().add_argument(*names, **more)
        self.flags.update((flag, action) for flag in action.option_strings if flag.startswith("--"))
        return action

    def add_subparsers(self, **more: Any) -> Any:
        """As argparse's."""
        action = super().add_subparsers(**more)
        self._subparsers_action = action
        return action

    def add_switch(self, name: str, **more: Any) -> None:
        """A flag that is on or off: ``--name``, or ``--name=true|false`` in any spelling that Go takes."""
        kind = more.pop("type", switch)
        self.add_argument(name, nargs="?", const="true", type=kind, metavar="true|false", **more)

    # argparse overloads the type of the namespace, which no caller here needs.
    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parses ``args``; ends the program with one line and exit code 2 where they are wrong."""
        words = self._in_two_dashes(list(sys.argv[1:] if args is None else args))
        parsed, extra = self.parse_known_args(list(words.values()), namespace)
        if extra:
            flag = next((word.partition("=")[0] for word in extra if word.startswith("--")), "")
            position = next(number for number, word in words.items() if word == extra[0])
            self.error(
                f"{flag} is no flag of this command" if flag else f"{_WORD.format(position)} is too much"
            )
        return parsed

    def error(self, message: str) -> NoReturn:
        """Ends the program with one line."""
        # "argument --json: ignored explicit argument 'SECRET'"
        shown = re.sub(r"ignored explicit argument .*", "takes no value", message, flags=re.DOTALL)
        self.exit(USAGE, f"{self.prog}: {shown} (see '{self.prog} --help')\n")

    def _in_two_dashes(self, words: list[str]) -> dict[int, str]:
        """Each flag with two dashes and joined with its value, by the position from 1 on.

        Ends the program at an unknown flag or command.
        """
        flags = dict(_flags(self))
        done: dict[int, str] = {}
        parser, position = self, 0
        while position < len(words):
            word = words[position]
            position += 1
            if word == "-h" or not word.startswith("-") or word == "-":
                done[position] = word
                parser = parser if word == "-h" else parser.command(word)
                continue
            flag, rest = _split(word)
            if flag not in flags:
                self.error(_unknown(position, word, list(flags)))
            action, number = flags[flag], position
            # Explicit, so that a switch does not consume the next word as its value.
            if action.nargs == "?" and not rest and _is_number(words[position : position + 1]):
                rest = f"={words[position]}"
                position += 1
            elif action.nargs == "?" and not rest:
                rest = f"={action.const}"
            elif action.nargs is None and not rest and _is_value(words[position : position + 1], flags):
                rest = f"={words[position]}"
                position += 1
            done[number] = flag + rest
        return done

    def command(self, name: str) -> ArgumentParser:
        """The sub-parser of a command, or this one if it has no commands; ends the program at others."""
        if not self.commands:
            return self
        if name not in self.commands:
            self.error(f"unknown command: {_choose(name, self.commands)}")
        return self.commands[name]


def _unquoted(kind: Callable[[str], Any], choices: Collection[object] | None) -> Callable[[str], Any]:
    """``kind`` as a type of a flag whose errors name the choices and never quote the value."""

    def convert(text: str) -> Any:
        try:
            value = kind(text)
        except (TypeError, ValueError):
            raise argparse.ArgumentTypeError("cannot be read as a number") from None
        if choices is not None and value not in choices:
            raise argparse.ArgumentTypeError(_choose(text, map(str, choices)))
        return value

    return convert


def _choose(text: str, choices: Iterable[str]) -> str:
    choices = list(choices)
    near = difflib.get_close_matches(text, choices, 1)
    return (f"is {near[0]} meant? " if near else "") + f"choose from {', '.join(choices)}"


def switch(text: str) -> bool:
    """The type of a boolean flag."""
    try:
        return validation.boolean(text, "flag")
    except InvalidValue as error:
        raise argparse.ArgumentTypeError(error.remedy) from None


def seconds(text: str) -> float:
    """The type of a flag that takes seconds."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if 0 <= number <= 1e9:
        return number
    raise argparse.ArgumentTypeError("give a number of seconds")


def _flags(parser: ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    """All flags of a parser and its commands."""
    yield from parser.flags.items()
    for command in parser.commands.values():
        yield from _flags(command)


def _split(word: str) -> tuple[str, str]:
    """A flag with two dashes, and its value with the ``=`` before it; two empty texts for no flag."""
    found = _FLAG.fullmatch(word)
    return (f"--{found[1]}", found[2] or "") if found else ("", "")


def _is_value(following: Sequence[str], flags: Mapping[str, argparse.Action]) -> bool:
    """Whether the word after a flag is its value: as in Go, any word that is not a flag."""
    return bool(following) and _split(following[0])[0] not in flags


def _is_number(following: Sequence[str]) -> bool:
    """Whether the word after a flag with an optional value is its value; no command is a number."""
    return bool(following) and following[0].replace(".", "", 1).isdecimal()


def _unknown(position: int, word: str, flags: Sequence[str]) -> str:
    near = difflib.get_close_matches(_split(word)[0], flags, 1)
    meant = f": is {near[0]} meant?" if near else ""
    name = word.partition("=")[0]
    shown = name if _PLAIN_FLAG.fullmatch(name) else _WORD.format(position)
    return f"{shown} is no flag that is known{meant}"
