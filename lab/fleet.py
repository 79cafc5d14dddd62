# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as a whole: create it, add machines, write its inventory, remove it."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import ipaddress
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab import addressing, base_tree, host, inventory, keys, naming, network
from lab.errors import LabError
from lab.machine import Machine
from lab.nat_sites import NatSites
from lab.node import Node
from lab.records import Interface, LabSpec, MachineSpec, write_atomically
from lab.settings import RUNTIME, Settings, cache_folder, control_sockets
from lab.topology import INTERNET, Topology


def _discard(_text: str) -> None:
    pass


class Lab:
    """A fleet of machines on this host.

    With `prefix` and `network` None it uses free ones, so labs in different folders run side by side.
    """

    def __init__(
        self,
        directory: Path,
        prefix: str | None = None,
        network: ipaddress.IPv4Network | None = None,
        cache: Path | None = None,
        report: Callable[[str], None] = _discard,
    ) -> None:
        self.directory = directory.absolute()
        self._prefix = prefix and naming.check_prefix(prefix)
        self._network = network
        self._cache = cache or cache_folder()
        self._report = report
        self._nodes: dict[str, Node] = {}

    @classmethod
    def from_settings(cls, settings: Settings, report: Callable[[str], None] = _discard) -> Lab:
        """Return the lab of the settings."""
        return cls(settings.directory, settings.prefix, settings.network, report=report)

    @property
    def spec(self) -> LabSpec:
        """The lab's record on disk; raises LabError where there is no lab."""
        spec = LabSpec.load(self.directory)
        if spec is None:
            raise LabError(f"no lab in {self.directory}: start one with python -m lab up 4")
        return spec

    @property
    def nat_sites(self) -> NatSites:
        """Its NAT sites; `up` with a topology creates them."""
        return NatSites(self.directory, self.spec.prefix)

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
        nodes = [self.node(name) for name in self._names()]
        return sorted(nodes, key=lambda node: ipaddress.IPv4Address(node.address))

    def node(self, name: str) -> Node:
        """Return one machine; raise LabError if the lab has none of that name."""
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
        recipe: base_tree.Recipe | None = None,
    ) -> None:
        """Create the lab if there is none, boot the named machines that are off, and wait for their ssh.

        `topology` describes a new lab's NAT sites. Machines that it does not name are in the lab's own
        network, as in a lab without NAT sites. New machines start from the tree of `recipe`, or from the
        lab's own.
        """
        names = [naming.check_name(name) for name in names]
        host.preflight()
        spec = LabSpec.load(self.directory)
        lab_tree = Path(spec.base) if spec else base_tree.ensure(self._cache, self._report)
        tree = base_tree.ensure(self._cache, self._report, recipe) if recipe else lab_tree
        with self._host_lock():
            self._ensure_lab(lab_tree)
            if topology is not None or self.nat_sites.exist:
                self.nat_sites.ensure(topology)
            for name in names:
                self._ensure_machine(name, tree)
            self._write_known_hosts()
            starting = [node for node in map(self.node, names) if not node.machine.is_on]
            boots = {node.name: node.machine.boots for node in starting}
            for node in starting:
                node.machine.start()
            for node in starting:
                node.machine.wait_booting(boots[node.name] + 1, timeout)
        for node in map(self.node, names):
            node.wait_ssh(timeout)

    def add(self, name: str) -> Node:
        """Create and boot one more machine."""
        self.up([name])
        return self.node(name)

    def remove(self, name: str) -> None:
        """Remove one machine with its disk."""
        node = self.node(name)
        with self._host_lock():
            node.close()
            node.machine.remove()
            shutil.rmtree(self._folder(name))
            del self._nodes[name]
            self._write_known_hosts()

    def move(self, name: str, place: str) -> None:
        """Move a machine to another NAT site, or to the internet (`lab.topology.INTERNET`)."""
        node = self.node(name)
        with self._host_lock():
            if not node.in_topology:
                raise LabError(f"{name} is in no NAT site: only machines of the NAT sites move")
            node.machine.move(self.nat_sites.interface(place, self._topology_interfaces(without=name)))
            self._write_known_hosts()

    def block(self, one: str, other: str, *, blocked: bool = True) -> None:
        """Drop all packets between two sites or public machines without an error, or forward them again.

        A machine behind a router stands for its whole site.
        """
        self.nat_sites.block(self._port(one), self._port(other), blocked=blocked)

    def _port(self, name: str) -> str:
        if name in self.nat_sites.topology.sites:
            return naming.router_port(name)
        node = self.node(name)
        if not node.in_topology:
            raise LabError(f"{name} is in no NAT site")
        return self.nat_sites.port_of(node.machine.spec.interfaces[0], name)

    def _topology_interfaces(self, without: str = "") -> list[Interface]:
        nodes = [node for node in self.nodes if node.in_topology and node.name != without]
        return [node.machine.spec.interfaces[0] for node in nodes]

    def second_network(self, names: Sequence[str]) -> ipaddress.IPv4Network:
        """Connect the named machines by a second network (eth1) that this host has no access to."""
        nodes = [self.node(name) for name in names]
        with self._host_lock():
            spec = self.spec
            if spec.second_network is None:
                free = addressing.free_network(
                    [*network.routed_networks(), ipaddress.IPv4Network(spec.network)]
                )
                spec = dataclasses.replace(spec, second_network=str(free))
                spec.save(self.directory)
            second = ipaddress.IPv4Network(str(spec.second_network))
            network.ensure_second_bridge(spec.prefix)
            for node in nodes:
                if len(node.machine.spec.interfaces) == 1:
                    number = int(ipaddress.IPv4Address(node.address)) & int(second.hostmask)
                    address = str(addressing.host_address(second, number))
                    node.machine.add_interface(Interface(network.SECOND_BRIDGE, address))
        return second

    def write_inventory(
        self,
        path: Path,
        groups: Mapping[str, Sequence[str]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write hosts.yml into the folder `path`, and `variables` (0600) as its group_vars/all.yml.

        Returns the path of hosts.yml.
        """
        shared = inventory.connection(self.key, self.known_hosts, control_sockets(self.spec.prefix))
        machines = {node.name: self._host_variables(node, shared) for node in self.nodes}
        groups = inventory.default_groups(list(machines)) if groups is None else groups
        path.mkdir(parents=True, exist_ok=True)
        write_atomically(path / "hosts.yml", inventory.as_yaml(inventory.hosts(machines, groups, shared)))
        if variables is not None:
            (path / "group_vars").mkdir(exist_ok=True)
            write_atomically(path / "group_vars" / "all.yml", inventory.as_yaml(variables), 0o600)
        return path / "hosts.yml"

    def _host_variables(self, node: Node, shared: Mapping[str, Any]) -> dict[str, str]:
        host_variables = {"ansible_host": self._ssh_name(node)}
        if node.in_topology:
            host_variables |= inventory.ssh_proxy_variables(node.netns, shared)
        return host_variables

    def _ssh_name(self, node: Node) -> str:
        """Return a machine's address, or its name behind a router, where addresses may repeat."""
        interface = node.machine.spec.interfaces[0]
        is_behind_router = node.in_topology and self.nat_sites.site_of(interface) != INTERNET
        return node.name if is_behind_router else node.address

    def close(self) -> None:
        """Close all ssh connections; the machines keep running."""
        for node in self._nodes.values():
            node.close()
        self._nodes.clear()

    def down(self) -> bool:
        """Remove everything of this lab, even an incomplete one; return False if there was none."""
        spec = LabSpec.load(self.directory)
        if spec is None:
            return False
        self.close()
        with self._host_lock():
            machines = [Machine(self._folder(name)) for name in self._names()]
            for machine in machines:
                machine.signal_power_off()
            for machine in machines:
                machine.remove()
            self.nat_sites.remove()
            network.remove_lab(spec.prefix)
            shutil.rmtree(RUNTIME / spec.prefix, ignore_errors=True)
            shutil.rmtree(self.directory)
        return True

    def _folder(self, name: str) -> Path:
        return self.directory / "machines" / name

    def _names(self) -> list[str]:
        return sorted(path.parent.name for path in self.directory.glob("machines/*/machine.json"))

    @contextlib.contextmanager
    def _host_lock(self) -> Iterator[None]:
        """Serialise changes of all labs on this host: each chooses a free network and prefix."""
        RUNTIME.mkdir(mode=0o755, exist_ok=True)
        with (RUNTIME / "lock").open("w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _ensure_lab(self, tree: Path) -> None:
        spec = LabSpec.load(self.directory)
        if spec is None:
            self._check_folder()
            spec = LabSpec(self._free_prefix(self._prefix), str(self._choose_network()), str(tree))
            self.directory.mkdir(parents=True, exist_ok=True)
            self.directory.chmod(0o700)
            spec.save(self.directory)
        self._claim_prefix(self._free_prefix(spec.prefix))
        if not self.key.exists():
            keys.make_ed25519(self.key)
        if not network.netns_exists(naming.lab_netns(spec.prefix)):
            network.create_lab(spec)
            if spec.second_network is not None:
                network.ensure_second_bridge(spec.prefix)

    def _choose_network(self) -> ipaddress.IPv4Network:
        used = network.routed_networks()
        if self._network is None:
            return addressing.free_network(used)
        if other := addressing.overlapping(self._network, used):
            raise LabError(f"lab network {self._network}: this host routes {other} already; choose another")
        return self._network

    def _check_folder(self) -> None:
        if self.directory.exists() and any(self.directory.iterdir()):
            raise LabError(
                f"{self.directory} holds files that belong to no lab: set JAYWALK_LAB_DIR to another folder"
            )

    def _owner_of(self, prefix: str) -> Path | None:
        """Return the folder of another lab that uses the prefix now."""
        owner = RUNTIME / prefix / "owner"
        folder = Path(owner.read_text(encoding="utf-8")) if owner.exists() else self.directory
        return folder if folder != self.directory and (folder / "lab.json").exists() else None

    def _free_prefix(self, prefix: str | None) -> str:
        """Return the prefix if it is free, or a free one: two labs must not share namespace names."""
        if prefix is None:
            return next(name for name in naming.default_prefixes() if self._owner_of(name) is None)
        if other := self._owner_of(prefix):
            raise LabError(f"lab prefix {prefix!r} is taken by the lab in {other}: set JAYWALK_LAB_PREFIX")
        return prefix

    def _claim_prefix(self, prefix: str) -> None:
        control_sockets(prefix).mkdir(mode=0o700, parents=True, exist_ok=True)
        (RUNTIME / prefix / "owner").write_text(str(self.directory), encoding="utf-8")

    def _ensure_machine(self, name: str, tree: Path) -> None:
        """Create a machine's folder, with its name and keys on its disk."""
        folder = self._folder(name)
        if (folder / "machine.json").exists():
            return
        spec, interface = self.spec, self._new_interface(name)
        shutil.rmtree(folder, ignore_errors=True)
        self._prepare_disk(folder / "upper", name)
        MachineSpec(name, spec.prefix, str(tree), (interface,)).save(folder)

    def _new_interface(self, name: str) -> Interface:
        places = self.nat_sites.topology.machines if self.nat_sites.exist else {}
        if name in places:
            return self.nat_sites.interface(places[name], self._topology_interfaces())
        subnet = ipaddress.IPv4Network(self.spec.network)
        taken = [ipaddress.IPv4Address(node.address) for node in self.nodes if not node.in_topology]
        address = addressing.host_address(subnet, addressing.free_host_number(subnet, taken))
        return Interface(
            network.FIRST_BRIDGE,
            str(address),
            str(addressing.host_address(subnet, addressing.GATEWAY_NUMBER).ip),
        )

    def _prepare_disk(self, disk: Path, name: str) -> None:
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
        (disk / "etc/machine-id").write_text(
            f"{naming.machine_id(self.spec.prefix, name)}\n", encoding="ascii"
        )
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
