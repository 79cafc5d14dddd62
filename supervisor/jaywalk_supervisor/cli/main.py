# SPDX-License-Identifier: GPL-3.0-or-later
# PYTHON_ARGCOMPLETE_OK
"""The command ``jaywalk-supervisor``: its parser, and the dispatch to its commands."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import argcomplete

from jaywalk.controller.errors import RedisErrorTranslator
from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.core.files import read_variables
from jaywalk.service import log_format
from jaywalk.service.arguments import ArgumentParser
from jaywalk.service.operator import operator_name
from jaywalk.service.version import installed_version

from ..store.audit import OPERATOR
from ..store.store import Store
from . import API_ADDRESS, audit, join_token, key, lock, peer, token, zone
from .controller_options import (
    add_controller_options,
    add_option,
    controller_address,
    embedded_server,
)

_COMMANDS = {
    "audit": audit.run,
    "join-token": join_token.run,
    "key": key.run,
    "lock": lock.run,
    "peer": peer.run,
    "token": token.run,
}
SERVICE_SETTINGS_FILE = "/etc/jaywalk-supervisor/supervisor.env"


def parser() -> ArgumentParser:
    """Returns the command line; long options take one dash or two, as the original's did."""
    top = ArgumentParser(
        prog="jaywalk-supervisor",
        description="Decides on joins and addresses of a Jaywalking mesh, and serves its REST API. "
        "Without a command it serves until it is stopped.",
        epilog="Without -streamer-address it starts a Redis-compatible server on loopback.",
    )
    top.add_argument("--version", action="version", version=f"jaywalk-supervisor {installed_version()}")
    add_controller_options(top, None)
    add_option(
        top,
        "api-address",
        None,
        f"HOST:PORT of the REST API; on other addresses than loopback every request needs a token "
        f"(JAYWALK_API_ADDRESS, default {API_ADDRESS})",
    )
    add_option(
        top,
        "api-cert",
        None,
        "PEM file of the API's certificate and its chain, for TLS; read again when it changes "
        "(JAYWALK_API_CERT)",
        "FILE",
    )
    add_option(top, "api-key", None, "PEM file of its private key (JAYWALK_API_KEY)", "FILE")
    top.add_switch(
        "--api-plain-text",
        help="listen on another address than loopback without TLS, for an address of a mesh or behind a "
        "proxy (JAYWALK_API_PLAIN_TEXT=1)",
    )
    top.add_switch(
        "--api-tokens-only",
        help="require a token for every request, on loopback too, for a proxy in front of the API "
        "(JAYWALK_API_TOKENS_ONLY=1)",
    )
    add_option(
        top,
        "default-zones",
        None,
        "whether to create zone-red and zone-blue if they are missing (JAYWALK_DEFAULT_ZONES, default yes)",
        "YES|NO",
    )
    common = ArgumentParser(add_help=False)
    add_controller_options(common, argparse.SUPPRESS)
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    zone.add_commands(commands, common)
    peer.add_commands(commands, common)
    join_token.add_commands(commands, common)
    token.add_commands(commands, common)
    key.add_commands(commands, common)
    lock.add_commands(commands, common)
    audit.add_command(commands, common)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; 0 is success, 1 a failure, 2 an invalid value or usage."""
    command_line = parser()
    argcomplete.autocomplete(command_line)
    options = command_line.parse_args(argv)
    try:
        log_format.set_up(options.log_level or os.environ.get("JAYWALK_LOG_LEVEL") or "info")
        return _run_command(options) if options.command else _serve(options)
    except JaywalkError as error:
        print(f"jaywalk-supervisor: {error}", file=sys.stderr)
        return 2 if isinstance(error, InvalidValue) else 1


def _serve(options: argparse.Namespace) -> int:
    # Imported here: Flask, pydantic and the committer take half of the time that a command needs.
    from . import serve

    return serve.run(options)


def _run_command(options: argparse.Namespace) -> int:
    if options.command == "lock" and options.verb == "keygen":
        return lock.keygen(options)  # on any machine, without a controller
    if not options.streamer_address and "JAYWALK_STREAMER_ADDRESS" not in os.environ:
        # An operator at this machine's shell means the Redis of this machine's service.
        for name, value in read_variables(SERVICE_SETTINGS_FILE).items():
            os.environ.setdefault(name, value)
    if options.command == "key" and not key.needs_store(options):
        return key.run(None, options)
    where = controller_address(options) or embedded_server(options).address()
    store = Store.open(where, "jaywalk-supervisor-zone")
    store.author = OPERATOR + operator_name()
    try:
        with RedisErrorTranslator(where):
            return _COMMANDS.get(options.command, zone.run)(store, options)
    finally:
        store.close()


if __name__ == "__main__":
    sys.exit(main())
