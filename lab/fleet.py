# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as a whole: make it, add machines, write its inventory, take it down again."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import ipaddress
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab import base, host, inventory, keys, network, plan
from lab.errors import LabError
from lab.machine import Machine
from lab.node import Node
from lab.settings import RUNTIME, Settings, cache_folder, control_sockets
from lab.spec import LabSpec, Leg, MachineSpec, write_atomically
from lab.streets import Streets
from lab.topology import INTERNET, Topology


def _silent(_text: str) -> None:
    pass


class Lab:
    """A fleet of real machines on this host.

    `prefix` and `network` None take free ones, so labs in different folders run side by side.
    """

    def __init__(
        self,
        directory: Path,
        prefix: str | None = None,
        network: ipaddress.IPv4Network | None = None,
        cache: Path | None = None,
        report: Callable[[str], None] = _silent,
    ) -> None:
        self.directory = directory.absolute()
        self._prefix = prefix and plan.check_prefix(prefix)
        self._network = network
        self._cache = cache or cache_folder()
        self._report = report
        self._nodes: dict[str, Node] = {}

    @classmethod
    def from_settings(cls, settings: Settings, report: Callable[[str], None] = _silent) -> Lab:
        """The lab that the environment names."""
        return cls(settings.directory, settings.prefix, settings.network, report=report)

    @property
    def spec(self) -> LabSpec:
        """What is on disk about it; LabError where there is no lab."""
        spec = LabSpec.load(self.directory)
        if spec is None:
            raise LabError(f"no lab in {self.directory}: start one with python -m lab up 4")
        return spec

    @property
    def streets(self) -> Streets:
        """Its streets; made by `up` with a topology."""
        return Streets(self.directory, self.spec.prefix)

    @property
    def key(self) -> Path:
        """The operator's private ssh key."""
        return self.directory / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """Every machine's host key."""
        return self.directory / "known_hosts"

    @property
    def nodes(self) -> list[Node]:
        """All its machines, on or off, in the order of their addresses."""
        found = [self.node(name) for name in self._names()]
        return sorted(found, key=lambda node: ipaddress.IPv4Address(node.address))

    def node(self, name: str) -> Node:
        """One machine; LabError if the lab has none of that name."""
        if name not in self._nodes:
            names = self._names()
            if name not in names:
                raise LabError(f"no machine {name!r} in the lab: there are {', '.join(names) or 'none'}")
            self._nodes[name] = Node(self._folder(name), self.key, self.known_hosts)
        return self._nodes[name]

    def up(
        self,
        names: Iterable[str],
        timeout: float = 60.0,
        topology: Topology | None = None,
        recipe: base.Recipe | None = None,
    ) -> None:
        """Make the lab if there is none, boot the named machines that are off, and wait for their ssh.

        `topology` gives a new lab its streets; machines of its own that are not named there have a
        place in the lab's network, as they have in a lab without streets.  New machines start from the
        tree of `recipe`, or from the lab's own.
        """
        wanted = [plan.check_name(name) for name in names]
        host.preflight()
        known = LabSpec.load(self.directory)
        own = Path(known.base) if known else base.ensure(self._cache, self._report)
        tree = base.ensure(self._cache, self._report, recipe) if recipe else own
        with self._changing():
            self._ensure_lab(own)
            if topology is not None or self.streets.exist:
                self.streets.ensure(topology)
            for name in wanted:
                self._ensure_machine(name, tree)
            self._write_known_hosts()
            starting = [node for node in map(self.node, wanted) if not node.machine.is_on]
            boots = {node.name: node.machine.boots for node in starting}
            for node in starting:
                node.machine.start()
            for node in starting:
                node.machine.wait_booting(boots[node.name] + 1, timeout)
        for node in map(self.node, wanted):
            node.wait_ssh(timeout)

    def add(self, name: str) -> Node:
        """Boot one machine more."""
        self.up([name])
        return self.node(name)

    def remove(self, name: str) -> None:
        """Take one machine away, with its disk."""
        node = self.node(name)
        with self._changing():
            node.close()
            node.machine.remove()
            shutil.rmtree(self._folder(name))
            del self._nodes[name]
            self._write_known_hosts()

    def move(self, name: str, place: str) -> None:
        """Unplug a machine and plug it in elsewhere: in a street, or straight on the internet."""
        node = self.node(name)
        with self._changing():
            if not node.in_street:
                raise LabError(f"{name} is in no street: only machines of the streets move")
            node.machine.move(self.streets.leg(place, self._street_legs(without=name)))
            self._write_known_hosts()

    def block(self, one: str, other: str, *, blocked: bool = True) -> None:
        """Let nothing pass between two places of the internet, in silence, or let it pass again.

        A place is a street, or a machine: one behind a router stands for its whole street.
        """
        self.streets.block(self._port(one), self._port(other), blocked=blocked)

    def _port(self, name: str) -> str:
        if name in self.streets.topology.streets:
            return plan.router_port(name)
        node = self.node(name)
        if not node.in_street:
            raise LabError(f"{name} is in no street")
        return self.streets.port_of(node.machine.spec.legs[0], name)

    def _street_legs(self, without: str = "") -> list[Leg]:
        return [node.machine.spec.legs[0] for node in self.nodes if node.in_street and node.name != without]

    def second_network(self, names: Sequence[str]) -> ipaddress.IPv4Network:
        """Join the named machines by one network more (eth1), which this host and the others do not see."""
        nodes = [self.node(name) for name in names]
        with self._changing():
            spec = self.spec
            if spec.second_network is None:
                free = plan.free_network([*network.routed(), ipaddress.IPv4Network(spec.network)])
                spec = dataclasses.replace(spec, second_network=str(free))
                spec.save(self.directory)
            second = ipaddress.IPv4Network(str(spec.second_network))
            network.ensure_second_bridge(spec.prefix)
            for node in nodes:
                if len(node.machine.spec.legs) == 1:
                    number = int(ipaddress.IPv4Address(node.address)) & int(second.hostmask)
                    node.machine.add_leg(Leg(network.SECOND_BRIDGE, str(plan.place(second, number))))
        return second

    def write_inventory(
        self,
        path: Path,
        groups: Mapping[str, Sequence[str]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write hosts.yml into the folder `path`, and `variables` (0600) as its group_vars/all.yml."""
        shared = inventory.connection(self.key, self.known_hosts, control_sockets(self.spec.prefix))
        machines = {node.name: self._host_variables(node, shared) for node in self.nodes}
        chosen = inventory.default_groups(list(machines)) if groups is None else groups
        path.mkdir(parents=True, exist_ok=True)
        write_atomically(path / "hosts.yml", inventory.as_yaml(inventory.hosts(machines, chosen, shared)))
        if variables is not None:
            (path / "group_vars").mkdir(exist_ok=True)
            write_atomically(path / "group_vars" / "all.yml", inventory.as_yaml(variables), 0o600)
        return path / "hosts.yml"

    def _host_variables(self, node: Node, shared: Mapping[str, Any]) -> dict[str, str]:
        host_variables = {"ansible_host": self._ssh_name(node)}
        if node.in_street:
            host_variables |= inventory.through_door(node.netns, shared)
        return host_variables

    def _ssh_name(self, node: Node) -> str:
        """A machine's address; its name where it is behind a router, for others may have its address."""
        leg = node.machine.spec.legs[0]
        hidden = node.in_street and self.streets.street_of(leg) != INTERNET
        return node.name if hidden else node.address

    def close(self) -> None:
        """Close all ssh connections; the machines run on."""
        for node in self._nodes.values():
            node.close()
        self._nodes.clear()

    def down(self) -> bool:
        """Take everything of this lab away, however far it got; False if there was none."""
        spec = LabSpec.load(self.directory)
        if spec is None:
            return False
        self.close()
        with self._changing():
            machines = [Machine(self._folder(name)) for name in self._names()]
            for machine in machines:
                machine.signal_off()
            for machine in machines:
                machine.remove()
            self.streets.remove()
            network.remove_lab(spec.prefix)
            shutil.rmtree(RUNTIME / spec.prefix, ignore_errors=True)
            shutil.rmtree(self.directory)
        return True

    def _folder(self, name: str) -> Path:
        return self.directory / "machines" / name

    def _names(self) -> list[str]:
        return sorted(path.parent.name for path in self.directory.glob("machines/*/machine.json"))

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """One change at a time on this host: labs choose networks beside each other."""
        RUNTIME.mkdir(mode=0o755, exist_ok=True)
        with (RUNTIME / "lock").open("w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _ensure_lab(self, tree: Path) -> None:
        spec = LabSpec.load(self.directory)
        if spec is None:
            self._refuse_foreign_folder()
            spec = LabSpec(self._free_prefix(self._prefix), str(self._choose_network()), str(tree))
            self.directory.mkdir(parents=True, exist_ok=True)
            self.directory.chmod(0o700)
            spec.save(self.directory)
        self._claim_prefix(self._free_prefix(spec.prefix))
        if not self.key.exists():
            keys.make_ed25519(self.key)
        if not network.netns_exists(plan.lab_netns(spec.prefix)):
            network.make_lab(spec)
            if spec.second_network is not None:
                network.ensure_second_bridge(spec.prefix)

    def _choose_network(self) -> ipaddress.IPv4Network:
        routed = network.routed()
        if self._network is None:
            return plan.free_network(routed)
        if other := plan.overlapping(self._network, routed):
            raise LabError(f"lab network {self._network}: this host routes {other} already; choose another")
        return self._network

    def _refuse_foreign_folder(self) -> None:
        if self.directory.exists() and any(self.directory.iterdir()):
            raise LabError(
                f"{self.directory} holds files that are no lab's: set JAYWALK_LAB_DIR to another folder"
            )

    def _owner_of(self, prefix: str) -> Path | None:
        """The folder of another lab that has the prefix now."""
        owner = RUNTIME / prefix / "owner"
        folder = Path(owner.read_text(encoding="utf-8")) if owner.exists() else self.directory
        return folder if folder != self.directory and (folder / "lab.json").exists() else None

    def _free_prefix(self, wanted: str | None) -> str:
        """Two labs of one prefix would take each other's namespaces."""
        if wanted is None:
            return next(name for name in plan.prefixes() if self._owner_of(name) is None)
        if other := self._owner_of(wanted):
            raise LabError(f"lab prefix {wanted!r} is taken by the lab in {other}: set JAYWALK_LAB_PREFIX")
        return wanted

    def _claim_prefix(self, prefix: str) -> None:
        control_sockets(prefix).mkdir(mode=0o700, parents=True, exist_ok=True)
        (RUNTIME / prefix / "owner").write_text(str(self.directory), encoding="utf-8")

    def _ensure_machine(self, name: str, tree: Path) -> None:
        """Make a machine's folder with its name and keys on its disk."""
        folder = self._folder(name)
        if (folder / "machine.json").exists():
            return
        spec, leg = self.spec, self._new_leg(name)
        shutil.rmtree(folder, ignore_errors=True)
        self._furnish(folder / "upper", name)
        MachineSpec(name, spec.prefix, str(tree), (leg,)).save(folder)

    def _new_leg(self, name: str) -> Leg:
        homes = self.streets.topology.machines if self.streets.exist else {}
        if name in homes:
            return self.streets.leg(homes[name], self._street_legs())
        subnet = ipaddress.IPv4Network(self.spec.network)
        taken = [ipaddress.IPv4Address(node.address) for node in self.nodes if not node.in_street]
        address = plan.place(subnet, plan.free_place(subnet, taken))
        return Leg(network.FIRST_BRIDGE, str(address), str(plan.place(subnet, plan.GATEWAY).ip))

    def _furnish(self, disk: Path, name: str) -> None:
        for part, mode in {
            "": 0o755,
            "etc": 0o755,
            "etc/ssh": 0o755,
            "root": 0o700,
            "root/.ssh": 0o700,
        }.items():
            (disk / part).mkdir(parents=True, exist_ok=True)
            (disk / part).chmod(mode)
        (disk / "etc/hostname").write_text(f"{name}\n", encoding="ascii")
        (disk / "etc/machine-id").write_text(f"{plan.machine_id(self.spec.prefix, name)}\n", encoding="ascii")
        (disk / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n", encoding="ascii")
        shutil.copyfile(self.key.with_suffix(".pub"), disk / "root/.ssh/authorized_keys")
        (disk / "root/.ssh/authorized_keys").chmod(0o600)
        keys.make_ed25519(disk / "etc/ssh/ssh_host_ed25519_key")

    def _write_known_hosts(self) -> None:
        lines = []
        for node in self.nodes:
            public = self._folder(node.name) / "upper/etc/ssh/ssh_host_ed25519_key.pub"
            names = dict.fromkeys((node.name, self._ssh_name(node)))
            lines.append(f"{','.join(names)} {public.read_text(encoding='ascii')}")
        write_atomically(self.known_hosts, "".join(lines), 0o644)
