# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``key`` of ``jaywalk-supervisor``: the key pair to which nodes prove their requests."""

from __future__ import annotations

import argparse
import json
from typing import Any

from jaywalk.trust.secrets import key_id

from ..possession.keyring import KeyFile
from ..store import published_keys
from ..store.store import Store
from .controller_options import supervisor_key_file


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the parsers of the command; ``common`` has the options that say where Redis and the file are."""
    text = "print the public key of the supervisors; makes the key pair if there is none"
    key = commands.add_parser("key", parents=[common], help=text, description=text)
    key.add_argument("--json", action="store_true", help="print JSON")
    verbs = key.add_subparsers(dest="verb", metavar="VERB")
    for name, help_text in {
        "rotate": "make a new key pair; the ones before stay valid until 'key retire'",
        "retire": "end all key pairs but the newest",
        "publish": "publish this machine's keys in all zones in place of others, after the loss of those",
    }.items():
        verb = verbs.add_parser(name, parents=[common], help=help_text, description=help_text)
        verb.add_argument("--json", action="store_true", help="print JSON", default=argparse.SUPPRESS)


def needs_store(options: argparse.Namespace) -> bool:
    """Whether the command reads or writes Redis."""
    return bool(options.verb == "publish")


def run(store: Store | None, options: argparse.Namespace) -> int:
    """Runs a command that :func:`add_commands` added; returns the exit code."""
    file = KeyFile(supervisor_key_file(options)).ensure()
    if options.verb == "rotate":
        file.rotate()
    elif options.verb == "retire":
        file.retire()
    elif store is not None:
        for zone in store.zones():
            published_keys.replace(store, zone, file.keyring.public_keys)
    _print(file.keyring.public_keys, file.path, options.json)
    return 0


def _print(keys: tuple[str, ...], path: str, as_json: bool) -> None:
    if as_json:
        listed = [{"public_key": key, "id": key_id(key)} for key in keys]
        print(json.dumps({"file": path, "keys": listed}))
        return
    for key in keys:
        print(key)
