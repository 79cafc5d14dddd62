# SPDX-License-Identifier: GPL-3.0-or-later
"""One machine as a test or a demo uses it: commands over ssh, power, cables."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TextIO

from lab import door, plan
from lab.errors import Unreachable
from lab.machine import Machine
from lab.ssh import Background, Client, Command, Result, as_text, wait_for_banner


class Node:
    """A machine of the lab."""

    def __init__(self, folder: Path, key: Path, known_hosts: Path) -> None:
        self.machine = Machine(folder)
        self.name = folder.name
        self._client = Client(self.name, self.dial, key, known_hosts)

    def __repr__(self) -> str:
        return f"Node({self.name!r}, {self.address!r})"

    @property
    def address(self) -> str:
        """Its first address; in a street, others may have the same."""
        return str(self.machine.spec.legs[0].ip)

    @property
    def netns(self) -> str:
        """The network namespace that it runs in."""
        return plan.machine_netns(self.machine.spec.prefix, self.name)

    @property
    def in_street(self) -> bool:
        """Whether it is part of the streets, where this host has no leg."""
        return self.machine.spec.legs[0].netns is not None

    def dial(self, timeout: float) -> socket.socket:
        """A connection to its ssh server; OSError if there is none."""
        if self.in_street:
            return door.connect(self.netns, timeout)
        return socket.create_connection((self.address, 22), timeout)

    def run(
        self,
        command: Command,
        timeout: float = 30.0,
        check: bool = True,
        stdin: str = "",
        echo: tuple[TextIO, TextIO] | None = None,
    ) -> Result:
        """Run a command as root over ssh; see `lab.ssh.Client.run` for what it does and raises."""
        try:
            return self._client.run(command, timeout, check, stdin, echo)
        except Unreachable as error:
            raise Unreachable(f"{error} ({self.name} is {self.machine.state})") from error

    def start_background(self, command: Command) -> Background:
        """Start a command and go on; its `stop` gives the result."""
        return Background(self._client, as_text(command))

    def wait_ssh(self, timeout: float = 30.0) -> None:
        """Wait until its ssh server answers; Unreachable if it does not."""
        try:
            wait_for_banner(self.name, self.dial, timeout, lambda: self.machine.is_on)
        except Unreachable as error:
            console = self.machine.console_end()
            raise Unreachable(
                f"{error} ({self.name} is {self.machine.state}); its console: {console}"
            ) from error

    def boot(self, timeout: float = 30.0) -> None:
        """Switch it on and wait for ssh."""
        boots = self.machine.boots
        self.machine.start()
        self.machine.wait_booting(boots + 1, timeout)
        self.wait_ssh(timeout)

    def reboot(self, timeout: float = 60.0) -> None:
        """Reboot it in good order, from inside, and wait for ssh."""
        boots = self.machine.boots
        self.run("systemctl --no-block reboot", check=False)
        self.close()
        self.machine.wait_booting(boots + 1, timeout)
        self.wait_ssh(timeout)

    def crash(self) -> None:
        """Pull the power cord; what it had written to its disk stays."""
        self.machine.pull_cord()
        self.close()

    def freeze(self) -> None:
        """Stop all its processes where they stand; its kernel still answers a ping."""
        self.machine.freeze(frozen=True)

    def thaw(self) -> None:
        """Let its processes go on."""
        self.machine.freeze(frozen=False)

    def cut(self) -> None:
        """Take its network away silently: it keeps its carrier and nothing arrives."""
        self.machine.cut(cut=True)

    def heal(self) -> None:
        """Give its network back."""
        self.machine.cut(cut=False)

    def close(self) -> None:
        """Close the ssh connection."""
        self._client.close()
