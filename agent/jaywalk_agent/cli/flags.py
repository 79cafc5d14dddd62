# SPDX-License-Identifier: GPL-3.0-or-later
"""The parser of ``jaywalk``: the flags of the options, and those of single commands."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from jaywalk.service.arguments import ArgumentParser, seconds
from jaywalk.service.version import installed_version

from ..options import CONFIG_DIR, OPTIONS
from . import ping

# How long ``up`` and ``leave`` wait for a reply.
TIMEOUT_SECONDS = 60.0

WATCH_SECONDS = 2.0
_STATUS_FLAGS: Mapping[str, dict[str, Any]] = {
    "--wait": {
        "type": seconds,
        "default": 0.0,
        "metavar": "SECONDS",
        "help": "wait until all is in order, at most this long",
    },
    "--watch": {
        "type": seconds,
        "nargs": "?",
        "const": WATCH_SECONDS,
        "default": 0.0,
        "metavar": "SECONDS",
        "help": f"repeat each SECONDS ({WATCH_SECONDS:.0f}), until Ctrl-C",
    },
    "--bad": {"action": "store_true", "help": "only peers and facts that are not in order"},
}


def build_parser(commands: Mapping[str, str]) -> ArgumentParser:
    """The parser of ``jaywalk``; ``commands`` has their descriptions.  Flags may stand before or behind."""
    parser = ArgumentParser(
        prog="jaywalk",
        description="Joins this node to an encrypted WireGuard mesh and keeps it there.",
        epilog="Each flag has its variable in brackets; an option with neither is read from the file of the "
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
    """The flags of ``command`` alone."""
    flags: dict[str, dict[str, Any]] = {}
    if command in ("up", "leave"):
        text = f"seconds to wait for the reply of the zone ({TIMEOUT_SECONDS:.0f})"
        flags["--timeout"] = {
            "type": seconds,
            "default": TIMEOUT_SECONDS,
            "metavar": "SECONDS",
            "help": text,
        }
    if command in ("down", "leave"):
        text = "also remove the zone's key, service file and state from this machine"
        flags["--purge"] = {"action": "store_true", "help": text}
    if command in ("status", "doctor", "ping"):
        flags["--json"] = {"action": "store_true", "help": "for scripts"}
    if command == "doctor":
        text = "also ask these STUN servers, HOST[:PORT],..., for the address and kind of a NAT"
        flags["--stun"] = {"default": "", "metavar": "HOSTS", "help": text}
    if command == "bugreport":
        text = "the archive, jaywalk-bugreport-<node>-<zone>-<time>.tar.gz in this folder"
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
            "completer": ping.complete_names,
        },
        "--all": {"action": "store_true", "help": "all peers of the zone"},
        "--size": {
            "default": 0,
            "metavar": "BYTES",
            "help": "size of the IP packets inside the tunnel, never sent in fragments",
        },
        "--count": {"default": 3, "metavar": "N", "help": "requests to each peer (3)"},
        "--timeout": {
            "type": seconds,
            "default": 2.0,
            "metavar": "SECONDS",
            "help": "time to wait for each reply (2)",
        },
    }
