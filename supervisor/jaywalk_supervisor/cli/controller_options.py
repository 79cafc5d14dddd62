# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of all commands that say which Redis the supervisor uses, and how it logs in."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.tls import TlsFiles
from jaywalk.core import validation
from jaywalk.core.errors import InvalidValue
from jaywalk.core.files import read_secret
from jaywalk.zone.network_bounds import NetworkBounds

from ..store.embedded import Embedded

STATE_DIR = "/var/lib/jaywalk-supervisor"
EMBEDDED_PORT = 6379
# The files of the supervisor's TLS to Redis, by the end of their option and variable.
TLS_FILES = {
    "ca": "file with the CA of Redis's TLS certificate; by default the system's CAs",
    "cert": "file with the supervisor's TLS certificate, for a Redis that demands one",
    "key": "file with the private key of that certificate",
}


def add_option(
    to: argparse.ArgumentParser, name: str, default: str | None, text: str, metavar: str = "ADDRESS"
) -> None:
    """Adds an option with a value."""
    to.add_argument(f"--{name}", default=default, help=text, metavar=metavar)


def add_controller_options(to: argparse.ArgumentParser, default: str | None) -> None:
    """Adds the options; ``default`` is the value of an option that is not given."""
    add_option(
        to,
        "streamer-address",
        default,
        "HOST[:PORT] of Redis, with TLS rediss://HOST[:PORT] (JAYWALK_STREAMER_ADDRESS)",
    )
    add_option(to, "streamer-user", default, "Redis user (JAYWALK_STREAMER_USER, default 'default')", "USER")
    add_option(
        to, "streamer-passwd-file", default, "file with its password (JAYWALK_STREAMER_PASSWD_FILE)", "FILE"
    )
    add_option(
        to,
        "streamer-passwd",
        default,
        "the password itself, which other users of this machine can then read: prefer the file, or "
        "JAYWALK_STREAMER_PASSWD",
        "PASSWORD",
    )
    for name, text in TLS_FILES.items():
        variable = f"JAYWALK_STREAMER_{name.upper()}"
        add_option(to, f"streamer-{name}", default, f"{text} ({variable})", "FILE")
    add_option(
        to,
        "agent-password-file",
        default,
        "file with the agents' password of a zone without a password of its own",
        "FILE",
    )
    add_option(
        to,
        "state-dir",
        default,
        "folder for copies of zones, reservations and tokens, which are restored into a Redis that lost "
        "them, and for the embedded server's data (JAYWALK_SUPERVISOR_STATE; by default no copies on disk "
        f"with -streamer-address, and else {STATE_DIR})",
        "DIR",
    )
    add_option(
        to,
        "supervisor-key-file",
        default,
        "file with the private key to which nodes prove their requests, made at the first start "
        "(JAYWALK_SUPERVISOR_KEY_FILE, default supervisor.key in the state folder)",
        "FILE",
    )
    add_option(
        to,
        "pool-networks",
        default,
        "networks, with commas between them, in which zones may have pools; 'default' stands for private, "
        "benchmark and documentation networks, 'any' for all (JAYWALK_POOL_NETWORKS, default 'default')",
        "NETWORKS",
    )
    add_option(to, "embedded-port", default, f"port of the embedded server (default {EMBEDDED_PORT})", "PORT")
    add_option(
        to, "log-level", default, "debug, info, warning or error (JAYWALK_LOG_LEVEL, default info)", "LEVEL"
    )


def controller_address(options: argparse.Namespace) -> ControllerAddress | None:
    """Returns the controller that the options name, or None for the embedded one; raises ``InvalidValue``."""
    address = options.streamer_address or os.environ.get("JAYWALK_STREAMER_ADDRESS")
    if not address:
        return None
    user = options.streamer_user or os.environ.get("JAYWALK_STREAMER_USER") or "default"
    return ControllerAddress.parse(address, user, _password(options), _tls_files(options))


def embedded_server(options: argparse.Namespace) -> Embedded:
    """Returns the embedded server that the options describe; it is not started."""
    folder = state_dir(options) or _default_state_dir()
    return Embedded(folder, validation.port(options.embedded_port or EMBEDDED_PORT, "embedded port"))


def state_dir(options: argparse.Namespace) -> str:
    """Returns the state folder of the options, the environment or systemd; empty if none names it."""
    return (
        options.state_dir
        or os.environ.get("JAYWALK_SUPERVISOR_STATE")
        or os.environ.get("STATE_DIRECTORY")
        or ""
    )


def supervisor_key_file(options: argparse.Namespace) -> str:
    """Returns the path of the supervisors' key file."""
    given = options.supervisor_key_file or os.environ.get("JAYWALK_SUPERVISOR_KEY_FILE")
    return given or f"{state_dir(options) or _default_state_dir()}/supervisor.key"


def pool_networks(options: argparse.Namespace) -> NetworkBounds:
    """Returns the networks in which zones may have pools; raises ``InvalidValue``."""
    text = options.pool_networks or os.environ.get("JAYWALK_POOL_NETWORKS") or ""
    return NetworkBounds.parse(text, "pool network")


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


def _tls_files(options: argparse.Namespace) -> TlsFiles:
    return TlsFiles(
        *(
            getattr(options, f"streamer_{name}") or os.environ.get(f"JAYWALK_STREAMER_{name.upper()}") or ""
            for name in TLS_FILES
        )
    )


def _default_state_dir() -> str:
    if os.geteuid() == 0:
        return STATE_DIR
    home = os.environ.get("XDG_STATE_HOME") or str(Path("~/.local/state").expanduser())
    return f"{home}/jaywalk-supervisor"
