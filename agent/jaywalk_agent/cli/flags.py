# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of ``jaywalk``: the original's flags, each with its variable, and the commands' own."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from jaywalk.service.arguments import ArgumentParser, seconds
from jaywalk.service.version import installed_version

from ..options import CONFIG_DIR, OPTIONS
from . import ping

TIMEOUT_SECONDS = 60.0
"""How long ``up`` and ``leave`` wait for the zone."""

WATCH_SECONDS = 2.0
_STATUS_FLAGS: Mapping[str, dict[str, Any]] = {
    "--wait": {
        "type": seconds,
        "default": 0.0,
        "metavar": "SECONDS",
        "help": "until all is in order, at most this long",
    },
    "--watch": {
        "type": seconds,
        "nargs": "?",
        "const": WATCH_SECONDS,
        "default": 0.0,
        "metavar": "SECONDS",
        "help": f"again each SECONDS ({WATCH_SECONDS:.0f}), until Ctrl-C",
    },
    "--bad": {"action": "store_true", "help": "only what is not well"},
}


def build_parser(commands: Mapping[str, str]) -> ArgumentParser:
    """The parser of ``jaywalk``, with ``commands`` and what each does; flags may stand before or behind."""
    parser = ArgumentParser(
        prog="jaywalk",
        description="Joins this node to an encrypted WireGuard mesh and keeps it there.",
        epilog="Each flag has its variable in brackets; what neither says is read from the settings of the "
        f"zone's service, {CONFIG_DIR}/<zone>.env. A flag takes one dash or two, and one that is on or "
        "off also =true or =false. Exit codes: 0 done, or all well; 1 failed, or something is not well "
        "(status, doctor, ping); 2 bad value; 130 ended by Ctrl-C.",
    )
    parser.add_argument("--version", action="version", version=f"jaywalk {installed_version()}")
    _add_flags(parser)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, text in commands.items():
        sub = subparsers.add_parser(name, help=text.split(";")[0].rstrip("."), description=text)
        _add_flags(sub)
        for flag, more in _own_flags(name).items():
            completer = more.pop("completer", None)
            # argcomplete reads this attribute.
            sub.add_argument(flag, **more).completer = completer
    parser.set_defaults(timeout=TIMEOUT_SECONDS)
    return parser


def _add_flags(parser: ArgumentParser) -> None:
    for option in OPTIONS.values():
        # Without a default here, a flag behind the command does not reset one before it.
        common: dict[str, Any] = {"default": argparse.SUPPRESS, "help": option.help_text}
        if option.is_switch:
            parser.add_switch(option.flag, **common)
        else:
            action = "append" if option.repeatable else "store"
            parser.add_argument(option.flag, metavar=option.metavar, action=action, **common)


def _own_flags(command: str) -> dict[str, dict[str, Any]]:
    """The flags that ``command`` alone has."""
    flags: dict[str, dict[str, Any]] = {}
    if command in ("up", "leave"):
        text = f"seconds to wait for the zone ({TIMEOUT_SECONDS:.0f})"
        flags["--timeout"] = {
            "type": seconds,
            "default": TIMEOUT_SECONDS,
            "metavar": "SECONDS",
            "help": text,
        }
    if command in ("down", "leave"):
        text = "remove the zone's key, settings and state here too"
        flags["--purge"] = {"action": "store_true", "help": text}
    if command in ("status", "doctor", "ping"):
        flags["--json"] = {"action": "store_true", "help": "for scripts"}
    if command == "doctor":
        text = "also ask these STUN servers, HOST[:PORT],..., where and of which kind a NAT is"
        flags["--stun"] = {"default": "", "metavar": "HOSTS", "help": text}
    if command == "bugreport":
        text = "the archive, jaywalk-bugreport-<node>-<zone>-<time>.tar.gz here"
        flags["--output"] = {"default": "", "metavar": "FILE", "help": text}
    if command == "status":
        flags |= _STATUS_FLAGS
    if command == "ping":
        flags |= _ping_flags()
    return flags


def _ping_flags() -> dict[str, dict[str, Any]]:
    return {
        "peers": {
            "nargs": "*",
            "metavar": "PEER",
            "help": "a peer's name, address or public key",
            "completer": ping.names,
        },
        "--all": {"action": "store_true", "help": "all peers of the zone"},
        "--size": {
            "default": 0,
            "metavar": "BYTES",
            "help": "of the IP packets inside the tunnel, never sent in fragments",
        },
        "--count": {"default": 3, "metavar": "N", "help": "questions to each peer (3)"},
        "--timeout": {
            "type": seconds,
            "default": 2.0,
            "metavar": "SECONDS",
            "help": "to wait for each answer (2)",
        },
    }
