# SPDX-License-Identifier: GPL-3.0-or-later
# PYTHON_ARGCOMPLETE_OK
"""The command ``jaywalk-supervisor``."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import argcomplete

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.errors import RedisErrorTranslator
from jaywalk.core import validation
from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.core.files import read_secret, read_variables
from jaywalk.service import log_format
from jaywalk.service.arguments import ArgumentParser
from jaywalk.service.version import installed_version

from ..server import ApiSettings, Settings, Supervisor
from ..store.acl import password_hash
from ..store.embedded import Embedded
from ..store.store import Store
from . import token, zone

log = logging.getLogger(__name__)

API_ADDRESS = "127.0.0.1:8080"
STATE_DIR = "/var/lib/jaywalk-supervisor"
SERVICE_SETTINGS = "/etc/jaywalk-supervisor/supervisor.env"
EMBEDDED_PORT = 6379


def parser() -> ArgumentParser:
    """The command line; long options take one dash or two, as the original's did."""
    top = ArgumentParser(
        prog="jaywalk-supervisor",
        description="Decides on joins and addresses of a Jaywalking mesh, and serves its REST API. "
        "Without a command it serves until it is stopped.",
        epilog="Without -streamer-address a Redis-compatible server is started beside it, on loopback.",
    )
    top.add_argument("--version", action="version", version=f"jaywalk-supervisor {installed_version()}")
    _common(top, None)
    _option(
        top,
        "api-address",
        None,
        f"HOST:PORT of the REST API; elsewhere than on loopback it answers to tokens only "
        f"(JAYWALK_API_ADDRESS, default {API_ADDRESS})",
    )
    top.add_switch(
        "--api-tokens-only",
        help="have the API answer to tokens only, on loopback too, for a proxy in front of it "
        "(JAYWALK_API_TOKENS_ONLY=1)",
    )
    _option(
        top,
        "default-zones",
        None,
        "whether to make zone-red and zone-blue where they are missing (JAYWALK_DEFAULT_ZONES, default yes)",
        "YES|NO",
    )
    common = ArgumentParser(add_help=False)
    _common(common, argparse.SUPPRESS)
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    zone.add_commands(commands, common)
    token.add_commands(commands, common)
    return top


def _common(to: ArgumentParser, default: str | None) -> None:
    _option(to, "streamer-address", default, "HOST[:PORT] of Redis (JAYWALK_STREAMER_ADDRESS)")
    _option(to, "streamer-user", default, "Redis user (JAYWALK_STREAMER_USER, default 'default')", "USER")
    _option(
        to, "streamer-passwd-file", default, "file with its password (JAYWALK_STREAMER_PASSWD_FILE)", "FILE"
    )
    _option(
        to,
        "streamer-passwd",
        default,
        "the password itself, which other users of this machine can then read: prefer the file, or "
        "JAYWALK_STREAMER_PASSWD",
        "PASSWORD",
    )
    _option(
        to, "agent-password-file", default, "file with the agents' password of a zone without its own", "FILE"
    )
    _option(
        to,
        "state-dir",
        default,
        "folder for copies of zones, reservations and tokens, which go back into a Redis that lost them, and "
        "for the embedded server's data (JAYWALK_SUPERVISOR_STATE; by default no copies on disk where "
        f"-streamer-address is given, and else {STATE_DIR})",
        "DIR",
    )
    _option(to, "embedded-port", default, f"port of the embedded server (default {EMBEDDED_PORT})", "PORT")
    _option(
        to, "log-level", default, "debug, info, warning or error (JAYWALK_LOG_LEVEL, default info)", "LEVEL"
    )


def _option(to: ArgumentParser, name: str, default: str | None, text: str, metavar: str = "ADDRESS") -> None:
    to.add_argument(f"--{name}", default=default, help=text, metavar=metavar)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; 0 is success, 1 a failure, 2 a value or usage that cannot be right."""
    words = parser()
    argcomplete.autocomplete(words)
    options = words.parse_args(argv)
    try:
        log_format.set_up(options.log_level or os.environ.get("JAYWALK_LOG_LEVEL") or "info")
        return _command(options) if options.command else _serve(options)
    except JaywalkError as error:
        print(f"jaywalk-supervisor: {error}", file=sys.stderr)
        return 2 if isinstance(error, InvalidValue) else 1


def _serve(options: argparse.Namespace) -> int:
    api = _api(options)
    defaults = _default_zones(options)
    where = _streamer(options)
    if where is not None:
        return Supervisor(
            Settings(where, _agent_digest(options, where), api, defaults, _state_dir(options))
        ).run()
    embedded = _embedded(options)
    try:
        where = embedded.start()
        password = (
            read_secret(options.agent_password_file, "agents' password")
            if options.agent_password_file
            else ""
        )
        digest = password_hash(password or embedded.agent_password())
        log.info("embedded server on %s, agents' password in %s/agents.password", where, embedded.folder)
        return Supervisor(Settings(where, digest, api, defaults, embedded.state_dir), embedded).run()
    finally:
        embedded.stop()


def _command(options: argparse.Namespace) -> int:
    if not options.streamer_address and "JAYWALK_STREAMER_ADDRESS" not in os.environ:
        # What the service of this machine serves is what a person at its shell means.
        for name, value in read_variables(SERVICE_SETTINGS).items():
            os.environ.setdefault(name, value)
    where = _streamer(options) or _embedded(options).address()
    store = Store.open(where, "jaywalk-supervisor-zone")
    try:
        with RedisErrorTranslator(where):
            return token.run(store, options) if options.command == "token" else zone.run(store, options)
    finally:
        store.close()


def _streamer(options: argparse.Namespace) -> ControllerAddress | None:
    """The controller that we are told to use, or None for the embedded one."""
    address = options.streamer_address or os.environ.get("JAYWALK_STREAMER_ADDRESS")
    if not address:
        return None
    user = options.streamer_user or os.environ.get("JAYWALK_STREAMER_USER") or "default"
    return ControllerAddress.parse(address, user, _password(options))


def _password(options: argparse.Namespace) -> str:
    if options.streamer_passwd:
        return str(options.streamer_passwd)
    if options.streamer_passwd_file:
        return read_secret(options.streamer_passwd_file, "controller's password")
    if password := os.environ.get("JAYWALK_STREAMER_PASSWD"):
        return password
    if file := os.environ.get("JAYWALK_STREAMER_PASSWD_FILE"):
        return read_secret(file, "controller's password")
    raise InvalidValue(
        "the controller's password is missing",
        "give -streamer-passwd-file or set JAYWALK_STREAMER_PASSWD_FILE",
    )


def _agent_digest(options: argparse.Namespace, where: ControllerAddress) -> str:
    """The hash of the password of agents whose zone has none of its own, or empty: then nobody can join it.

    Without users of its own a Redis has one password for all, as the original had.
    """
    if options.agent_password_file:
        return password_hash(read_secret(options.agent_password_file, "agents' password"))
    if where.user != "default":
        return ""
    log.warning(
        "agents of zones without a password of their own use the controller's, which may do anything there: "
        "give -agent-password-file, or make each zone with --agent-password-file"
    )
    return password_hash(where.password)


def _embedded(options: argparse.Namespace) -> Embedded:
    folder = _state_dir(options) or _default_state_dir()
    return Embedded(folder, validation.port(options.embedded_port or EMBEDDED_PORT, "embedded port"))


def _state_dir(options: argparse.Namespace) -> str:
    """The state folder that we are told to use, by systemd at the last; empty where nobody says."""
    named = (
        options.state_dir or os.environ.get("JAYWALK_SUPERVISOR_STATE") or os.environ.get("STATE_DIRECTORY")
    )
    return named or ""


def _default_state_dir() -> str:
    if os.geteuid() == 0:
        return STATE_DIR
    home = os.environ.get("XDG_STATE_HOME") or str(Path("~/.local/state").expanduser())
    return f"{home}/jaywalk-supervisor"


def _default_zones(options: argparse.Namespace) -> bool:
    text = options.default_zones or os.environ.get("JAYWALK_DEFAULT_ZONES") or "yes"
    return validation.boolean(text, f"--default-zones {validation.shown(text)}")


def _api(options: argparse.Namespace) -> ApiSettings:
    text = options.api_address or os.environ.get("JAYWALK_API_ADDRESS") or API_ADDRESS
    host, _, digits = text.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.strip("[]")
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise InvalidValue(
            f"the API address '{text}' does not parse", f"give one like {API_ADDRESS}"
        ) from None
    tokens_only = _tokens_only(options)
    return ApiSettings(host, validation.port(digits, "API port"), loopback, loopback and not tokens_only)


def _tokens_only(options: argparse.Namespace) -> bool:
    if options.api_tokens_only is not None:
        return bool(options.api_tokens_only)
    variable = "JAYWALK_API_TOKENS_ONLY"
    return validation.boolean(os.environ.get(variable) or "false", variable)


if __name__ == "__main__":
    sys.exit(main())
