# SPDX-License-Identifier: GPL-3.0-or-later
"""The command: python -m lab up 4, exec node1 'wg show', down."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import argcomplete
import yaml
from tabulate import tabulate

from lab import base, door, plan, product
from lab.errors import LabError
from lab.fleet import Lab
from lab.node import Node
from lab.settings import ROOT, Settings, cache_folder
from lab.topology import Topology

ENVIRONMENT = """\
environment:
  JAYWALK_LAB_DIR      where the running lab lies (default /var/tmp/jaywalk-lab; overlay needs a real disk)
  JAYWALK_LAB_PREFIX   what its namespaces are called by (default: the first free of jw, jw2, ...)
  JAYWALK_LAB_NETWORK  its IPv4 network (default: the first free /24 from 10.99.0.0/24 on)
  JAYWALK_CACHE        where base trees are kept (default ~/.cache/jaywalk)
"""


Action = Callable[[Lab, argparse.Namespace], int]


def say(text: str) -> None:
    """A line of progress; results alone go to standard output."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


def inventory_folder(lab: Lab) -> Path:
    """Where the lab's own inventory lies."""
    return lab.directory / "inventory"


def write_inventory(lab: Lab) -> Path:
    """Write the lab's inventory; passwords once made stay as they are."""
    folder = inventory_folder(lab)
    secrets = folder / "group_vars" / "all.yml"
    variables = product.variables(ROOT)
    if secrets.exists():
        variables |= yaml.safe_load(secrets.read_text(encoding="utf-8"))
    return lab.write_inventory(folder, variables=variables)


def up(lab: Lab, options: argparse.Namespace) -> int:
    """Boot the machines and say how to go on."""
    begun = time.monotonic()
    topology = Topology.parse(options.streets.read_text(encoding="utf-8")) if options.streets else None
    count = options.count or 0
    if topology is None and options.count is None:
        raise LabError("how many machines? say up 4, or up --streets FILE")
    names = list(topology.machines if topology else plan.default_names(count, plain=options.plain))
    lab.up(names, topology=topology)
    path = write_inventory(lab)
    say(f"{len(names)} machines up in {time.monotonic() - begun:.1f} s on {lab.spec.network}")
    say(f"inventory: {path}")
    return 0


def down(lab: Lab, _options: argparse.Namespace) -> int:
    """Take the lab away."""
    say("all gone" if lab.down() else f"no lab in {lab.directory}: nothing to do")
    return 0


def status(lab: Lab, _options: argparse.Namespace) -> int:
    """Print a table of the machines."""
    rows = []
    for node in lab.nodes:
        spec = node.machine.spec
        addresses = ", ".join(leg.address for leg in spec.legs)
        place = lab.streets.street_of(spec.legs[0]) if node.in_street else "-"
        rows.append((node.name, addresses, place, node.machine.state, node.machine.boots))
    print(tabulate(rows, headers=("machine", "addresses", "street", "state", "boots"), tablefmt="simple"))
    if lab.streets.exist:
        streets = lab.streets.topology.streets.values()
        cells = [(each.name, each.wan, each.lan, each.nat, ", ".join(each.features)) for each in streets]
        print()
        print(tabulate(cells, headers=("street", "public", "behind", "nat", "with"), tablefmt="simple"))
    return 0


def execute(lab: Lab, options: argparse.Namespace) -> int:
    """Run a command on a machine and pass on what it prints and its exit code."""
    node = lab.node(options.node)
    command = options.command[0] if len(options.command) == 1 else options.command
    result = node.run(command, timeout=options.timeout, check=False, echo=(sys.stdout, sys.stderr))
    return result.rc if result.rc >= 0 else 1


def shell(lab: Lab, options: argparse.Namespace) -> int:
    """Become an ssh session on a machine."""
    node = lab.node(options.node)
    chosen = {"UserKnownHostsFile": str(lab.known_hosts), "IdentitiesOnly": "yes", "HostKeyAlias": node.name}
    if node.in_street:
        chosen |= door.ssh_options(node.netns)
    words = [word for name, value in chosen.items() for word in ("-o", f"{name}={value}")]
    os.execvp("ssh", ["ssh", "-i", str(lab.key), *words, f"root@{node.address}"])


def on_node(action: Callable[[Node], None], done: str) -> Action:
    """A subcommand that does one thing to one machine."""

    def command(lab: Lab, options: argparse.Namespace) -> int:
        begun = time.monotonic()
        action(lab.node(options.node))
        say(f"{options.node} {done} ({time.monotonic() - begun:.1f} s)")
        return 0

    return command


def second_network(lab: Lab, options: argparse.Namespace) -> int:
    """Give machines one more interface."""
    joined = lab.second_network(options.nodes)
    say(f"{', '.join(options.nodes)}: eth1 on {joined}")
    return 0


def inventory(lab: Lab, _options: argparse.Namespace) -> int:
    """Write the inventory again and print where it is."""
    print(write_inventory(lab))
    return 0


def build_base(_lab: Lab, _options: argparse.Namespace) -> int:
    """Build the base tree and print where it is."""
    print(base.ensure(cache_folder(), say))
    return 0


def complete_node(**_: object) -> list[str]:
    """The machines that there are, for tab completion."""
    with contextlib.suppress(LabError):
        return [node.name for node in Lab.from_settings(Settings.from_environ()).nodes]
    return []


NODE_COMMANDS: dict[str, tuple[Callable[[Node], None], str, str]] = {
    "reboot": (Node.reboot, "rebooted", "reboot a machine in good order and wait for its ssh"),
    "crash": (Node.crash, "lost its power", "pull a machine's power cord; its disk stays"),
    "start": (Node.boot, "started", "start a machine that is off and wait for its ssh"),
    "freeze": (Node.freeze, "frozen", "stop all processes of a machine where they stand"),
    "thaw": (Node.thaw, "thawed", "let a frozen machine go on"),
    "cut": (Node.cut, "cut off", "take a machine's network away without telling it"),
    "heal": (Node.heal, "healed", "give a cut machine its network back"),
}


@dataclass(frozen=True)
class StreetCommand:
    """A verb of the streets: what it does, what is said of it then, its help, its arguments for argparse."""

    action: Callable[[Lab, argparse.Namespace], object]
    done: str
    text: str
    arguments: dict[str, dict[str, Any]]

    def __call__(self, lab: Lab, options: argparse.Namespace) -> int:
        result = self.action(lab, options)
        say(self.done.format(result=result, **vars(options)))
        return 0


STREET_COMMANDS = {
    "move": StreetCommand(
        lambda lab, words: lab.move(words.machine, words.place),
        "{machine} is plugged in at {place}",
        "plug a machine in at another street, or on the internet",
        {"machine": {}, "place": {}},
    ),
    "renumber": StreetCommand(
        lambda lab, words: lab.streets.renumber(words.street, words.address),
        "{street} has the public address {result}",
        "give a street's router another public address",
        {"street": {}, "address": {"nargs": "?"}},
    ),
    "forget": StreetCommand(
        lambda lab, words: lab.streets.forget(words.street),
        "{street} has no mappings any more",
        "let a street's router lose all its mappings",
        {"street": {}},
    ),
    "block": StreetCommand(
        lambda lab, words: lab.block(words.one, words.other),
        "nothing passes between {one} and {other}",
        "let nothing pass between two streets or public machines, without a word",
        {"one": {}, "other": {}},
    ),
    "unblock": StreetCommand(
        lambda lab, words: lab.block(words.one, words.other, blocked=False),
        "{one} and {other} hear each other",
        "let pass again what was blocked",
        {"one": {}, "other": {}},
    ),
    "delay": StreetCommand(
        lambda lab, words: lab.streets.delay(words.milliseconds),
        "a round trip takes {milliseconds:g} ms",
        "set the round trip between any two public addresses",
        {"milliseconds": {"type": float}},
    ),
}


def parser() -> argparse.ArgumentParser:
    """The command's grammar."""
    main_parser = argparse.ArgumentParser(
        prog="python -m lab",
        description="A fleet of real machines on this box: systemd, sshd, network and disk each.",
        epilog=ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = main_parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, action: Action, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(action=action)
        return sub

    def add_node(sub: argparse.ArgumentParser, name: str = "node", nargs: str | None = None) -> None:
        argument = sub.add_argument(name, nargs=nargs, metavar="NODE", help="a machine, such as node1")
        # argcomplete looks for an attribute that argparse does not know.
        argument.completer = complete_node  # type: ignore[attr-defined]

    sub = add("up", up, "boot machines (those that run already stay) and write their inventory")
    sub.add_argument("count", type=int, nargs="?", metavar="N", help="how many")
    sub.add_argument(
        "--streets", type=Path, metavar="FILE", help="routers, and the machines behind them, by a description"
    )
    kind = sub.add_mutually_exclusive_group()
    kind.add_argument(
        "--controller", dest="plain", action="store_false", help="controller and N-1 nodes (the default)"
    )
    kind.add_argument("--plain", action="store_true", help="N nodes and no controller")
    sub.set_defaults(plain=False)
    add("down", down, "take the lab away, however far it got")
    add("status", status, "list the machines")
    sub = add("exec", execute, "run a command on a machine over ssh, as root")
    sub.add_argument(
        "--timeout", type=float, default=600.0, metavar="S", help="seconds to wait for its end (600)"
    )
    add_node(sub)
    sub.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="CMD", help="one word goes to the shell as it is"
    )
    add_node(add("shell", shell, "log in to a machine"))
    for name, (action, done, text) in NODE_COMMANDS.items():
        add_node(add(name, on_node(action, done), text))
    for name, street_command in STREET_COMMANDS.items():
        sub = add(name, street_command, street_command.text)
        for argument, keywords in street_command.arguments.items():
            sub.add_argument(argument, metavar=argument.upper(), **keywords)
    add_node(add("second-network", second_network, "join machines by a second network (eth1)"), "nodes", "+")
    add("inventory", inventory, "write the inventory again and print its path")
    add("base", build_base, "build the base tree if it is not there, and print its path")
    return main_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 ok, 1 failure, 2 bad usage, and the remote code for exec."""
    grammar = parser()
    argcomplete.autocomplete(grammar)
    options = grammar.parse_args(arguments)
    if getattr(options, "command", None) == []:
        grammar.error("exec: no command given; to log in: python -m lab shell NODE")
    try:
        lab = Lab.from_settings(Settings.from_environ(), say)
        code: int = options.action(lab, options)
    except (LabError, OSError) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return code
