# SPDX-License-Identifier: GPL-3.0-or-later
"""One machine from a test's or a demo's side: commands over ssh, power, network."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TextIO

from lab import naming, ssh_proxy
from lab.errors import Unreachable
from lab.machine import Machine
from lab.ssh import Background, Client, Command, Result, as_text, wait_for_banner


class Node:
    """A machine of the lab."""

    def __init__(self, folder: Path, key: Path, known_hosts: Path) -> None:
        self.machine = Machine(folder)
        self.name = folder.name
        self._client = Client(self.name, self.connect, key, known_hosts)

    def __repr__(self) -> str:
        return f"Node({self.name!r}, {self.address!r})"

    @property
    def address(self) -> str:
        """Its first address; machines of other NAT sites may have the same."""
        return str(self.machine.spec.interfaces[0].ip)

    @property
    def netns(self) -> str:
        """The network namespace that it runs in."""
        return naming.machine_netns(self.machine.spec.prefix, self.name)

    @property
    def in_topology(self) -> bool:
        """Whether it is in a NAT site or on the emulated internet, where this host has no interface."""
        return self.machine.spec.interfaces[0].netns is not None

    def connect(self, timeout: float) -> socket.socket:
        """Connect to its ssh server; raise OSError if there is none."""
        if self.in_topology:
            return ssh_proxy.connect(self.netns, timeout)
        return socket.create_connection((self.address, 22), timeout)

    def run(
        self,
        command: Command,
        timeout: float = 30.0,
        check: bool = True,
        stdin: str = "",
        echo: tuple[TextIO, TextIO] | None = None,
    ) -> Result:
        """Run a command as root over ssh; `lab.ssh.Client.run` describes the arguments and errors."""
        try:
            return self._client.run(command, timeout, check, stdin, echo)
        except Unreachable as error:
            raise Unreachable(f"{error} ({self.name} is {self.machine.state})") from error

    def start_background(self, command: Command) -> Background:
        """Start a command and return at once; its `stop` returns the result."""
        return Background(self._client, as_text(command))

    def wait_ssh(self, timeout: float = 30.0) -> None:
        """Wait until its ssh server answers; raise Unreachable if it does not."""
        try:
            wait_for_banner(self.name, self.connect, timeout, lambda: self.machine.is_on)
        except Unreachable as error:
            console = self.machine.console_end()
            raise Unreachable(
                f"{error} ({self.name} is {self.machine.state}); its console: {console}"
            ) from error

    def boot(self, timeout: float = 30.0) -> None:
        """Start it and wait for ssh."""
        boots = self.machine.boots
        self.machine.start()
        self.machine.wait_booting(boots + 1, timeout)
        self.wait_ssh(timeout)

    def reboot(self, timeout: float = 60.0) -> None:
        """Reboot it with systemctl, and wait for ssh."""
        boots = self.machine.boots
        self.run("systemctl --no-block reboot", check=False)
        self.close()
        self.machine.wait_booting(boots + 1, timeout)
        self.wait_ssh(timeout)

    def crash(self) -> None:
        """Cut its power; its disk keeps what it had written."""
        self.machine.power_off()
        self.close()

    def freeze(self) -> None:
        """Freeze all its processes; its kernel still answers a ping."""
        self.machine.freeze(frozen=True)

    def thaw(self) -> None:
        """Let its processes continue."""
        self.machine.freeze(frozen=False)

    def cut(self) -> None:
        """Cut it off from its networks: its interfaces keep their carrier and nothing arrives."""
        self.machine.cut(cut=True)

    def heal(self) -> None:
        """Connect it to its networks again."""
        self.machine.cut(cut=False)

    def close(self) -> None:
        """Close the ssh connection."""
        self._client.close()
