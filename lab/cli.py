# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: python -m lab up 4, exec node1 'wg show', down."""

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

from lab import base_tree, naming, playbook_variables, ssh_proxy
from lab.errors import LabError
from lab.fleet import Lab
from lab.node import Node
from lab.settings import ROOT, Settings, cache_folder
from lab.topology import Topology

ENVIRONMENT = """\
environment:
  JAYWALK_LAB_DIR      the folder of the running lab (default /var/tmp/jaywalk-lab; overlay needs a real disk)
  JAYWALK_LAB_PREFIX   the prefix of its namespaces' names (default: the first free of jw, jw2, ...)
  JAYWALK_LAB_NETWORK  its IPv4 network (default: the first free /24 from 10.99.0.0/24 on)
  JAYWALK_CACHE        the folder of the base trees (default ~/.cache/jaywalk)
"""


Action = Callable[[Lab, argparse.Namespace], int]


def log(text: str) -> None:
    """Print a line of progress to standard error; only results go to standard output."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


def inventory_folder(lab: Lab) -> Path:
    """Return the folder of the lab's own inventory."""
    return lab.directory / "inventory"


def write_inventory(lab: Lab) -> Path:
    """Write the lab's inventory; existing passwords stay."""
    folder = inventory_folder(lab)
    secrets = folder / "group_vars" / "all.yml"
    variables = playbook_variables.variables(ROOT)
    if secrets.exists():
        variables |= yaml.safe_load(secrets.read_text(encoding="utf-8"))
    return lab.write_inventory(folder, variables=variables)


def up(lab: Lab, options: argparse.Namespace) -> int:
    """Boot the machines and print the path of the inventory."""
    started = time.monotonic()
    file = options.nat_sites
    topology = Topology.parse(file.read_text(encoding="utf-8")) if file else None
    count = options.count or 0
    if topology is None and options.count is None:
        raise LabError("the number of machines is missing: up 4, or up --nat-sites FILE")
    names = list(topology.machines if topology else naming.default_names(count, plain=options.plain))
    lab.up(names, topology=topology)
    path = write_inventory(lab)
    log(f"{len(names)} machines up in {time.monotonic() - started:.1f} s on {lab.spec.network}")
    log(f"inventory: {path}")
    return 0


def down(lab: Lab, _options: argparse.Namespace) -> int:
    """Remove the lab."""
    log("removed" if lab.down() else f"no lab in {lab.directory}: nothing to do")
    return 0


def status(lab: Lab, _options: argparse.Namespace) -> int:
    """Print a table of the machines, and one of the NAT sites."""
    rows = []
    for node in lab.nodes:
        spec = node.machine.spec
        addresses = ", ".join(interface.address for interface in spec.interfaces)
        site = lab.nat_sites.site_of(spec.interfaces[0]) if node.in_topology else "-"
        rows.append((node.name, addresses, site, node.machine.state, node.machine.boots))
    print(tabulate(rows, headers=("machine", "addresses", "site", "state", "boots"), tablefmt="simple"))
    if lab.nat_sites.exist:
        sites = lab.nat_sites.topology.sites.values()
        cells = [(site.name, site.wan, site.lan, site.nat, ", ".join(site.features)) for site in sites]
        print()
        print(tabulate(cells, headers=("site", "public", "lan", "nat", "options"), tablefmt="simple"))
    return 0


def execute(lab: Lab, options: argparse.Namespace) -> int:
    """Run a command on a machine; print its output and return its exit code."""
    node = lab.node(options.node)
    command = options.command[0] if len(options.command) == 1 else options.command
    result = node.run(command, timeout=options.timeout, check=False, echo=(sys.stdout, sys.stderr))
    return result.rc if result.rc >= 0 else 1


def shell(lab: Lab, options: argparse.Namespace) -> int:
    """Replace this process by an ssh session on a machine."""
    node = lab.node(options.node)
    ssh_options = {
        "UserKnownHostsFile": str(lab.known_hosts),
        "IdentitiesOnly": "yes",
        "HostKeyAlias": node.name,
    }
    if node.in_topology:
        ssh_options |= ssh_proxy.ssh_options(node.netns)
    arguments = [word for name, value in ssh_options.items() for word in ("-o", f"{name}={value}")]
    os.execvp("ssh", ["ssh", "-i", str(lab.key), *arguments, f"root@{node.address}"])


def on_node(action: Callable[[Node], None], done: str) -> Action:
    """Make a subcommand that applies an action to one machine."""

    def command(lab: Lab, options: argparse.Namespace) -> int:
        started = time.monotonic()
        action(lab.node(options.node))
        log(f"{options.node} {done} ({time.monotonic() - started:.1f} s)")
        return 0

    return command


def second_network(lab: Lab, options: argparse.Namespace) -> int:
    """Connect machines by a second network."""
    subnet = lab.second_network(options.nodes)
    log(f"{', '.join(options.nodes)}: eth1 on {subnet}")
    return 0


def inventory(lab: Lab, _options: argparse.Namespace) -> int:
    """Write the inventory again and print its path."""
    print(write_inventory(lab))
    return 0


def build_base(_lab: Lab, _options: argparse.Namespace) -> int:
    """Build the base tree if it is missing, and print its path."""
    print(base_tree.ensure(cache_folder(), log))
    return 0


def complete_node(**_: object) -> list[str]:
    """Return the names of the machines, for tab completion."""
    with contextlib.suppress(LabError):
        return [node.name for node in Lab.from_settings(Settings.from_environ()).nodes]
    return []


NODE_COMMANDS: dict[str, tuple[Callable[[Node], None], str, str]] = {
    "reboot": (Node.reboot, "rebooted", "reboot a machine with systemctl and wait for its ssh"),
    "crash": (Node.crash, "lost its power", "cut a machine's power; its disk stays"),
    "start": (Node.boot, "started", "start a machine that is off and wait for its ssh"),
    "freeze": (Node.freeze, "frozen", "freeze all processes of a machine"),
    "thaw": (Node.thaw, "thawed", "let a frozen machine continue"),
    "cut": (Node.cut, "cut off", "cut a machine off from its network; its carrier stays up"),
    "heal": (Node.heal, "healed", "connect a cut machine to its network again"),
}


@dataclass(frozen=True)
class SiteCommand:
    """A subcommand for NAT sites.

    done: the message after it, with the arguments and `result` as fields.
    arguments: name -> keywords for argparse.
    """

    action: Callable[[Lab, argparse.Namespace], object]
    done: str
    help: str
    arguments: dict[str, dict[str, Any]]

    def __call__(self, lab: Lab, options: argparse.Namespace) -> int:
        result = self.action(lab, options)
        log(self.done.format(result=result, **vars(options)))
        return 0


SITE_COMMANDS = {
    "move": SiteCommand(
        lambda lab, options: lab.move(options.machine, options.site),
        "{machine} is in {site}",
        "move a machine to another NAT site, or to the internet",
        {"machine": {}, "site": {}},
    ),
    "renumber": SiteCommand(
        lambda lab, options: lab.nat_sites.renumber(options.site, options.address),
        "{site} has the public address {result}",
        "change the public address of a site's router",
        {"site": {}, "address": {"nargs": "?"}},
    ),
    "forget": SiteCommand(
        lambda lab, options: lab.nat_sites.forget(options.site),
        "{site} has no mappings",
        "remove all NAT mappings of a site's router",
        {"site": {}},
    ),
    "block": SiteCommand(
        lambda lab, options: lab.block(options.one, options.other),
        "all packets between {one} and {other} are dropped",
        "drop all packets between two sites or public machines, without an error to either",
        {"one": {}, "other": {}},
    ),
    "unblock": SiteCommand(
        lambda lab, options: lab.block(options.one, options.other, blocked=False),
        "packets pass between {one} and {other}",
        "let packets pass between two blocked sites or public machines again",
        {"one": {}, "other": {}},
    ),
    "delay": SiteCommand(
        lambda lab, options: lab.nat_sites.delay(options.milliseconds),
        "the round trip is {milliseconds:g} ms",
        "set the round trip between any two public addresses",
        {"milliseconds": {"type": float}},
    ),
}


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    main_parser = argparse.ArgumentParser(
        prog="python -m lab",
        description="A fleet of machines on this host, each with its own systemd, sshd, network and disk.",
        epilog=ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = main_parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, action: Action, summary: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        sub.set_defaults(action=action)
        return sub

    def add_node(sub: argparse.ArgumentParser, name: str = "node", nargs: str | None = None) -> None:
        argument = sub.add_argument(name, nargs=nargs, metavar="NODE", help="a machine, such as node1")
        # argcomplete's attribute; argparse does not declare it.
        argument.completer = complete_node  # type: ignore[attr-defined]

    sub = add("up", up, "boot machines (running ones stay) and write their inventory")
    sub.add_argument("count", type=int, nargs="?", metavar="N", help="the number of machines")
    sub.add_argument(
        "--nat-sites", type=Path, metavar="FILE", help="a description of routers and the machines behind them"
    )
    # The option's name before --nat-sites.
    sub.add_argument("--streets", dest="nat_sites", type=Path, help=argparse.SUPPRESS)
    kind = sub.add_mutually_exclusive_group()
    kind.add_argument(
        "--controller", dest="plain", action="store_false", help="controller and N-1 nodes (the default)"
    )
    kind.add_argument("--plain", action="store_true", help="N nodes and no controller")
    sub.set_defaults(plain=False)
    add("down", down, "remove the lab, even an incomplete one")
    add("status", status, "list the machines and NAT sites")
    sub = add("exec", execute, "run a command on a machine over ssh, as root")
    sub.add_argument(
        "--timeout", type=float, default=600.0, metavar="S", help="the time limit in seconds (600)"
    )
    add_node(sub)
    sub.add_argument(
        "command",
        nargs=argparse.REMAINDER,
        metavar="CMD",
        help="a single argument goes to the shell unquoted",
    )
    add_node(add("shell", shell, "log in to a machine"))
    for name, (action, done, summary) in NODE_COMMANDS.items():
        add_node(add(name, on_node(action, done), summary))
    for name, site_command in SITE_COMMANDS.items():
        sub = add(name, site_command, site_command.help)
        for argument, keywords in site_command.arguments.items():
            sub.add_argument(argument, metavar=argument.upper(), **keywords)
    add_node(
        add("second-network", second_network, "connect machines by a second network (eth1)"), "nodes", "+"
    )
    add("inventory", inventory, "write the inventory again and print its path")
    add("base", build_base, "build the base tree if it is missing, and print its path")
    return main_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0 for success, 1 for a failure, 2 for bad usage, the remote code for exec."""
    command_parser = parser()
    argcomplete.autocomplete(command_parser)
    options = command_parser.parse_args(arguments)
    if getattr(options, "command", None) == []:
        command_parser.error("exec: no command given; to log in: python -m lab shell NODE")
    try:
        lab = Lab.from_settings(Settings.from_environ(), log)
        code: int = options.action(lab, options)
    except (LabError, OSError) as error:
        log(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return code
