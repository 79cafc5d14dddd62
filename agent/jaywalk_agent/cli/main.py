# SPDX-License-Identifier: GPL-3.0-or-later
# PYTHON_ARGCOMPLETE_OK
"""The ``jaywalk`` command: the original's flags, and subcommands beside them."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import argcomplete

from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.core.runner import SubprocessRunner
from jaywalk.service import log_format
from jaywalk.service.arguments import ArgumentParser
from jaywalk.service.sd_notify import notify
from jaywalk.wireguard import keys

from ..agent import Agent
from ..config import AgentConfig
from ..doctor import run as examination
from ..host import runtime_state
from ..host.machine_id import own_machine_id
from ..host.platform import PLATFORM
from ..host.signals import Stopped, StopSignal
from ..options import SECRET_OPTIONS, collect_options
from ..zone import snapshot
from ..zone.membership import Membership
from ..zone.requests import NodeRequests
from . import bugreport, flags, privileges, static_config
from . import ping as ping_command
from . import status as status_command
from .purge import purge
from .redaction import without_secrets
from .takedown import retire_former, take_down

log = logging.getLogger("jaywalk")

FAILURE = 1
BAD_VALUE = 2
INTERRUPTED = 130
WITHOUT_ROOT = ("keygen",)
BY_FLAG = ("agent", "config")
"""Commands that a flag chooses."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0 done, 1 failed, 2 a value that cannot be."""
    parser = build_parser()
    argcomplete.autocomplete(parser)
    arguments = parser.parse_args(argv)
    # As the unit has it: whoever can open the lock can keep an agent from starting.
    os.umask(0o077)
    options: dict[str, str] = {}
    try:
        if arguments.command not in WITHOUT_ROOT:
            privileges.require(arguments.command or "--agent-mode")
        options = collect_options(arguments, os.environ)
        log_format.set_up(options.get("log_level", "info"))
        command = COMMANDS[_chosen(parser, arguments, options)]
        return command(AgentConfig.read(options), arguments)
    except InvalidValue as error:
        return _failed(error, BAD_VALUE, options)
    except JaywalkError as error:
        return _failed(error, FAILURE, options)
    except (Stopped, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output, such as head(1), has enough; Python would complain once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE


def _chosen(parser: ArgumentParser, arguments: argparse.Namespace, options: dict[str, str]) -> str:
    if arguments.command:
        return str(arguments.command)
    if options.get("agent_mode") == "true":
        return "agent"
    if "config" in options:
        return "config"
    if "controller" not in options:
        parser.error("say what to do: --agent-mode with --controller, or one of the commands")
    return "up"


def _failed(error: JaywalkError, code: int, options: Mapping[str, str]) -> int:
    secrets = [options[option] for option in SECRET_OPTIONS if options.get(option)]
    print(f"jaywalk: {without_secrets(str(error), secrets)}", file=sys.stderr)
    return code


def run_agent(config: AgentConfig, arguments: argparse.Namespace) -> int:
    """Joins and follows the zone until a signal comes."""
    with runtime_state.only_one(config.lock_file, config.zone) as lock, suppress(Stopped):
        retire_former(config)
        Agent(config, config.runner(), StopSignal(), lock).run()
    notify("STOPPING=1")
    log.info("stopped; the tunnels stay up")
    return 0


def up(config: AgentConfig, arguments: argparse.Namespace) -> int:
    """Joins once and leaves the tunnels up."""
    with runtime_state.only_one(config.lock_file, config.zone):
        retire_former(config)
        lease = Agent(config, config.runner(), StopSignal()).up(arguments.timeout)
    for note in lease.notes:
        print(f"jaywalk: {note}", file=sys.stderr)
    print(f"{config.interface} is up in zone {config.zone} with {', '.join(lease.addresses)}")
    return 0


def up_from_file(config: AgentConfig, arguments: argparse.Namespace) -> int:
    """Brings the interface up from a file of peers, and leaves it up."""
    addresses, notes = static_config.bring_up(config, Path(config.peers_file))
    for note in notes:
        print(f"jaywalk: {note}", file=sys.stderr)
    print(f"{config.interface} is up with {', '.join(addresses)}")
    return 0


def down(config: AgentConfig, arguments: argparse.Namespace) -> int:
    """Takes the interface down; the lease stays."""
    if config.peers_file and arguments.purge:
        raise InvalidValue(
            "--purge removes what a zone left here, and --config names none", "leave one of them out"
        )
    with runtime_state.only_one(config.lock_file, config.zone):
        # The namespace of the interface may be gone, and the interface with it.
        PLATFORM.backend(SubprocessRunner()).require_tools()
        _take_down(config, arguments.purge)
    return 0


def _take_down(config: AgentConfig, everything: bool) -> None:
    done = take_down(config, _current_key(config))
    print(f"{config.interface} is {'down' if done else 'not there'}")
    if everything:
        purge(config, SubprocessRunner())
        print(f"nothing of zone {config.zone} is left here")


def _current_key(config: AgentConfig) -> str:
    """The public key of this node; empty where the key file is gone or holds none, which keeps nothing up."""
    if config.peers_file:
        return static_config.own_public_key(config, Path(config.peers_file))
    with suppress(InvalidValue):
        return config.existing_key(SubprocessRunner())
    return ""


def leave(config: AgentConfig, arguments: argparse.Namespace) -> int:
    """Tells the zone that this node goes, then takes the interface down."""
    with runtime_state.only_one(config.lock_file, config.zone):
        public_key = config.existing_key(SubprocessRunner())
        address = config.controller_address()
        client = ZoneClient(connect(address), address, config.zone)
        membership = Membership(config.zone, public_key, own_machine_id(config.state_dir))
        request = NodeRequests(config, membership).leave()
        client.ask(request, arguments.timeout).lease_or_raise()
        snapshot.forget(config.snapshot_file, config.volatile_snapshot_file)
        _take_down(config, arguments.purge)
    print(f"left zone {config.zone}")
    return 0


def status(config: AgentConfig, arguments: argparse.Namespace) -> int:
    """Shows how many peers are connected, the zone and the interface; exit code 1 while not in order."""
    return status_command.run(config, arguments)


def keygen(config: AgentConfig, arguments: argparse.Namespace) -> int:
    """Makes a key where there is none and prints its public half."""
    public, _ = keys.ensure_key_file(SubprocessRunner(), str(config.private_key_file))
    print(public)
    return 0


def doctor(config: AgentConfig, arguments: argparse.Namespace) -> int:
    """Looks at all that this node's mesh rests on; exit code 1 while something is bad."""
    servers = [each for each in arguments.stun.split(",") if each]
    findings = examination.examine(config, config.runner(), servers)
    print(examination.as_json(findings) if arguments.json else examination.as_text(findings))
    return 0 if examination.healthy(findings) else FAILURE


def bugreport_(config: AgentConfig, arguments: argparse.Namespace) -> int:
    """Writes an archive with all that a maintainer asks for, and no secret in it; prints what is inside."""
    path = Path(arguments.output or bugreport.default_name(config))
    parts = bugreport.collect(config, collect_options(arguments, os.environ))
    table = bugreport.contents(config, parts)
    bugreport.write(path, [table, *parts])
    print(f"{path.absolute()}\n\n{table.text}", end="")
    return 0


def ping(config: AgentConfig, arguments: argparse.Namespace) -> int:
    """Asks peers live: path, round trip, loss; exit code 1 where one does not answer, 2 for no such peer."""
    return ping_command.run(config, arguments)


COMMANDS = {
    "agent": run_agent,
    "config": up_from_file,
    "up": up,
    "down": down,
    "leave": leave,
    "status": status,
    "doctor": doctor,
    "ping": ping,
    "bugreport": bugreport_,
    "keygen": keygen,
}


def build_parser() -> ArgumentParser:
    """The parser of ``jaywalk``."""
    return flags.build_parser(
        {
            name: function.__doc__ or ""
            for name, function in COMMANDS.items()
            if name not in ("agent", "config")
        }
    )


if __name__ == "__main__":
    sys.exit(main())
