# SPDX-License-Identifier: GPL-3.0-or-later
# PYTHON_ARGCOMPLETE_OK
"""The command ``jaywalk-supervisor``."""

from __future__ import annotations

import argparse
import ipaddress
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import argcomplete
from tabulate import tabulate

from jaywalk import logs, values
from jaywalk.controller import ControllerAddress, translated
from jaywalk.errors import InvalidValue, JaywalkError
from jaywalk.files import read_secret, read_variables
from jaywalk.models import Zone
from jaywalk.release import installed_version

from . import zones
from .acl import password_hash
from .embedded import Embedded
from .serve import Settings, Supervisor
from .store import Store

log = logging.getLogger(__name__)

API_ADDRESS = "127.0.0.1:8080"
STATE_DIR = "/var/lib/jaywalk-supervisor"
SERVICE_SETTINGS = "/etc/jaywalk-supervisor/supervisor.env"
EMBEDDED_PORT = 6379


def parser() -> argparse.ArgumentParser:
    """The command line; long options take one dash or two, as the original's did."""
    top = argparse.ArgumentParser(
        prog="jaywalk-supervisor",
        description="Decides on joins and addresses of a Jaywalking mesh, and serves its REST API. "
        "Without a command it serves until it is stopped.",
        epilog="Without -streamer-address a Redis-compatible server is started beside it, on loopback.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"jaywalk-supervisor {installed_version()}")
    _common(top, None)
    _option(
        top, "api-address", API_ADDRESS, f"HOST:PORT of the REST API, on loopback (default {API_ADDRESS})"
    )
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    _common(common, argparse.SUPPRESS)
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    zone = commands.add_parser("zone", help="add, list or show zones", allow_abbrev=False)
    verbs = zone.add_subparsers(dest="verb", metavar="VERB", required=True)
    add = verbs.add_parser(
        "add", parents=[common], help="make a zone; does nothing if it is there", allow_abbrev=False
    )
    add.add_argument("name", help="a DNS label")
    add.add_argument("--cidr", metavar="CIDR", help="its pool of IPv4 addresses, like 10.20.0.0/20")
    add.add_argument("--cidr6", metavar="CIDR", help="its pool of IPv6 addresses, like fd00:20::/64")
    add.add_argument("--description", default="", metavar="TEXT")
    add.add_argument("--json", action="store_true", help="print JSON")
    verbs.add_parser("list", parents=[common], help="list all zones", allow_abbrev=False).add_argument(
        "--json", action="store_true", help="print JSON"
    )
    show = verbs.add_parser("show", parents=[common], help="show one zone", allow_abbrev=False)
    show.add_argument("name")
    show.add_argument("--json", action="store_true", help="print JSON")
    return top


def _common(to: argparse.ArgumentParser, default: str | None) -> None:
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
        to, "state-dir", default, f"where the embedded server keeps its data (default {STATE_DIR})", "DIR"
    )
    _option(to, "embedded-port", default, f"port of the embedded server (default {EMBEDDED_PORT})", "PORT")
    _option(
        to, "log-level", default, "debug, info, warning or error (JAYWALK_LOG_LEVEL, default info)", "LEVEL"
    )


def _option(
    to: argparse.ArgumentParser, name: str, default: str | None, text: str, metavar: str = "ADDRESS"
) -> None:
    to.add_argument(f"--{name}", f"-{name}", default=default, help=text, metavar=metavar)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; 0 is success, 1 a failure, 2 a value or usage that cannot be right."""
    words = parser()
    argcomplete.autocomplete(words)
    options = words.parse_args(argv)
    try:
        logs.set_up(options.log_level or os.environ.get("JAYWALK_LOG_LEVEL") or "info")
        return _zone(options) if options.command == "zone" else _serve(options)
    except JaywalkError as error:
        print(f"jaywalk-supervisor: {error}", file=sys.stderr)
        return 2 if isinstance(error, InvalidValue) else 1


def _serve(options: argparse.Namespace) -> int:
    host, port = _api_address(options.api_address)
    where = _streamer(options)
    if where is not None:
        return Supervisor(Settings(where, _agent_digest(options, where), host, port)).run()
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
        return Supervisor(Settings(where, digest, host, port), embedded).run()
    finally:
        embedded.stop()


def _zone(options: argparse.Namespace) -> int:
    if not options.streamer_address:
        # What the service of this machine serves is what a person at its shell means.
        for name, value in read_variables(SERVICE_SETTINGS).items():
            os.environ.setdefault(name, value)
    where = _streamer(options) or _embedded(options).address()
    store = Store.open(where, "jaywalk-supervisor-zone")
    try:
        with translated(where):
            return _ZONE_VERBS[options.verb](store, options)
    finally:
        store.close()


def _zone_add(store: Store, options: argparse.Namespace) -> int:
    pools = [pool for pool in (options.cidr, options.cidr6) if pool]
    file = options.agent_password_file
    password = read_secret(file, "agents' password") if file else None
    changed, zone = zones.add(store, Zone.checked(options.name, pools, options.description), password)
    if options.json:
        print(json.dumps({"changed": changed, "zone": zone}))
    else:
        print(f"zone {zone['name']} {'was made or changed' if changed else 'is so already'}: {_pools(zone)}")
    return 0


def _zone_list(store: Store, options: argparse.Namespace) -> int:
    found = zones.listing(store)
    if options.json:
        print(json.dumps(found))
    else:
        rows = [
            (zone["name"], _pools(zone), zone["peers"], zone["leases"], zone["description"]) for zone in found
        ]
        print(tabulate(rows, headers=("zone", "pools", "peers", "leases", "description"), tablefmt="plain"))
    return 0


def _zone_show(store: Store, options: argparse.Namespace) -> int:
    zone = zones.one(store, options.name)
    print(json.dumps(zone) if options.json else tabulate(_facts(zone), tablefmt="plain"))
    return 0


_ZONE_VERBS = {"add": _zone_add, "list": _zone_list, "show": _zone_show}


def _pools(zone: dict[str, Any]) -> str:
    return ", ".join(pool["cidr"] for pool in zone["pools"])


def _facts(zone: dict[str, Any]) -> list[tuple[str, Any]]:
    pools = [(f"pool {pool['cidr']}", f"{pool['held']} of {pool['capacity']} held") for pool in zone["pools"]]
    names = ("name", "description", "peers", "leases", "epoch", "rev")
    return [*((name, zone[name]) for name in names), *pools]


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
    folder = options.state_dir or os.environ.get("STATE_DIRECTORY") or _default_state_dir()
    return Embedded(folder, values.port(options.embedded_port or EMBEDDED_PORT, "embedded port"))


def _default_state_dir() -> str:
    if os.geteuid() == 0:
        return STATE_DIR
    home = os.environ.get("XDG_STATE_HOME") or str(Path("~/.local/state").expanduser())
    return f"{home}/jaywalk-supervisor"


def _api_address(text: str) -> tuple[str, int]:
    host, _, digits = text.rpartition(":")
    host = host.strip("[]")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise InvalidValue(
            f"the API address '{text}' does not parse", f"give one like {API_ADDRESS}"
        ) from None
    if not loopback:
        raise InvalidValue(
            f"the API address '{text}' is not on loopback, and whoever reaches the API may read the mesh",
            f"use one like {API_ADDRESS}, and a tunnel or a proxy with a login to reach it from elsewhere",
        )
    return ("127.0.0.1" if host == "localhost" else host), values.port(digits, "API port")


if __name__ == "__main__":
    sys.exit(main())
