# SPDX-License-Identifier: GPL-3.0-or-later
# PYTHON_ARGCOMPLETE_OK
"""The ``jaywalk`` command: dispatches flags and subcommands."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import argcomplete

from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.core.runner import SubprocessRunner
from jaywalk.service import log_format
from jaywalk.service.arguments import ArgumentParser
from jaywalk.service.sd_notify import notify
from jaywalk.wireguard import keys

from ..agent import Agent
from ..config import AgentConfig
from ..doctor import run as examination
from ..host import namespace_service, runtime_state
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
# Commands that a flag selects.
FLAG_COMMANDS = ("agent", "config")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0 done, 1 failed, 2 invalid value."""
    parser = build_parser()
    argcomplete.autocomplete(parser)
    arguments = parser.parse_args(argv)
    # As in the unit: a user who can open the lock can keep an agent from starting.
    os.umask(0o077)
    options: dict[str, str] = {}
    try:
        if arguments.command not in WITHOUT_ROOT:
            privileges.require(arguments.command or "--agent-mode")
        options = collect_options(arguments, os.environ)
        log_format.set_up(options.get("log_level", "info"))
        command = COMMANDS[_command_name(parser, arguments, options)]
        return command(AgentConfig.read(options), arguments)
    except InvalidValue as error:
        return _failed(error, BAD_VALUE, options)
    except JaywalkError as error:
        return _failed(error, FAILURE, options)
    except (Stopped, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output, such as head(1), has ended; Python would report it again at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE


def _command_name(parser: ArgumentParser, arguments: argparse.Namespace, options: dict[str, str]) -> str:
    if arguments.command:
        return str(arguments.command)
    if options.get("agent_mode") == "true":
        return "agent"
    if "config" in options:
        return "config"
    if "controller" not in options:
        parser.error("give --agent-mode with --controller, or one of the commands")
    return "up"


def _failed(error: JaywalkError, code: int, options: Mapping[str, str]) -> int:
    secrets = [options[option] for option in SECRET_OPTIONS if options.get(option)]
    print(f"jaywalk: {without_secrets(str(error), secrets)}", file=sys.stderr)
    return code


def run_agent(config: AgentConfig, arguments: argparse.Namespace) -> int:
    """Joins and follows the zone until a signal ends it."""
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
    """Brings the interface up from a file of peers and leaves it up."""
    addresses, notes = static_config.bring_up(config, Path(config.peers_file))
    for note in notes:
        print(f"jaywalk: {note}", file=sys.stderr)
    print(f"{config.interface} is up with {', '.join(addresses)}")
    return 0


def down(config: AgentConfig, arguments: argparse.Namespace) -> int:
    """Takes the interface down; the lease stays."""
    if config.peers_file and arguments.purge:
        raise InvalidValue(
            "--purge removes the files of a zone, and --config has no zone", "leave one of them out"
        )
    with runtime_state.only_one(config.lock_file, config.zone):
        # In the outer namespace, since the one of the interface may be gone.
        PLATFORM.backend(SubprocessRunner()).require_tools()
        _take_down(config, arguments.purge)
    return 0


def _take_down(config: AgentConfig, with_purge: bool) -> None:
    removed = take_down(config, _current_key(config))
    print(f"{config.interface} is {'down' if removed else 'not there'}")
    if with_purge:
        purge(config, SubprocessRunner())
        print(f"nothing of zone {config.zone} is left here")


def _current_key(config: AgentConfig) -> str:
    """The public key of this node; empty if the key file is missing or invalid, which blocks no takedown."""
    if config.peers_file:
        return static_config.own_public_key(config, Path(config.peers_file))
    with suppress(InvalidValue):
        return config.existing_key(SubprocessRunner())
    return ""


def leave(config: AgentConfig, arguments: argparse.Namespace) -> int:
    """Leaves the zone, then takes the interface down."""
    with runtime_state.only_one(config.lock_file, config.zone):
        public_key = config.existing_key(SubprocessRunner())
        client = config.login(config.prover()).open("jaywalk-leave")
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
    """Makes a key if there is none; prints its public key."""
    public, _ = keys.ensure_key_file(SubprocessRunner(), str(config.private_key_file))
    print(public)
    return 0


def doctor(config: AgentConfig, arguments: argparse.Namespace) -> int:
    """Checks everything that this node's mesh depends on; exit code 1 while something is bad."""
    servers = [server for server in arguments.stun.split(",") if server]
    findings = examination.examine(config, config.runner(), servers)
    print(examination.as_json(findings) if arguments.json else examination.as_text(findings))
    return 0 if examination.healthy(findings) else FAILURE


def bugreport_(config: AgentConfig, arguments: argparse.Namespace) -> int:
    """Writes an archive with the facts that a maintainer needs, without secrets; prints its contents."""
    path = Path(arguments.output or bugreport.default_name(config))
    parts = bugreport.collect(config, collect_options(arguments, os.environ))
    table = bugreport.contents(config, parts)
    bugreport.write(path, [table, *parts])
    print(f"{path.absolute()}\n\n{table.text}", end="")
    return 0


def ping(config: AgentConfig, arguments: argparse.Namespace) -> int:
    """Probes peers: path, round trip, loss; exit code 1 if one does not answer, 2 for an unknown peer."""
    return ping_command.run(config, arguments)


def namespace(config: AgentConfig, arguments: argparse.Namespace) -> int:
    """Serves this node's agent inside of its network namespace; the unit jaywalk-namespace@ runs it."""
    with suppress(Stopped):
        namespace_service.serve(config.namespace_socket, config.netns, StopSignal())
    return 0


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
    "namespace": namespace,
}


def build_parser() -> ArgumentParser:
    """The parser of ``jaywalk``."""
    return flags.build_parser(
        {name: function.__doc__ or "" for name, function in COMMANDS.items() if name not in FLAG_COMMANDS}
    )


if __name__ == "__main__":
    sys.exit(main())
