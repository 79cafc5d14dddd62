# SPDX-License-Identifier: GPL-3.0-or-later
"""One machine from the host's side: its folder, supervisor, power and interfaces."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import signal
import time
from pathlib import Path

from lab import cgroup, detached, machine_supervisor, naming, network
from lab.deadline import Deadline
from lab.errors import LabError
from lab.records import Interface, MachineSpec, Running
from lab.settings import control_sockets

# A supervisor that does not hold its lock after this time has failed to start.
SUPERVISOR_START_SECONDS = 5.0
FREEZE_SECONDS = 10.0


class Machine:
    """Starts, stops, freezes and connects one machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def spec(self) -> MachineSpec:
        """The machine's record on disk."""
        return MachineSpec.load(self.folder)

    @property
    def is_on(self) -> bool:
        """Whether a supervisor holds the machine's lock."""
        try:
            with (self.folder / machine_supervisor.LOCK).open("r", encoding="ascii") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            pass
        return False

    @property
    def boots(self) -> int:
        """The number of boots since the machine was created."""
        running = Running.load(self.folder)
        return running.boots if running else 0

    @property
    def supervisor_pid(self) -> int:
        """The process id of the machine's supervisor; 0 if the machine is off."""
        running = Running.load(self.folder)
        return running.supervisor_pid if running is not None and self.is_on else 0

    @property
    def is_frozen(self) -> bool:
        """Whether the machine's processes are frozen."""
        running = Running.load(self.folder)
        return running is not None and cgroup.is_frozen(running.cgroups)

    def start(self) -> None:
        """Start the supervisor without waiting for the boot; raise LabError if the machine is on."""
        if self.is_on:
            raise LabError(f"{self.folder.name} is on already")
        self.clean_up()
        for connection in control_sockets(self.spec.prefix).glob("*"):
            connection.unlink(missing_ok=True)  # it belongs to an earlier boot
        name = naming.machine_netns(self.spec.prefix, self.spec.name)
        if not detached.start("lab.machine_supervisor", [str(self.folder)], name, self.folder / "console"):
            raise LabError(f"the supervisor of {self.folder.name} does not start: {self.console_end()}")

    def wait_booting(self, boots: int, timeout: float = 30.0) -> None:
        """Wait until boot number `boots` has begun; raise LabError with the console's end if it does not."""
        deadline, supervisor_start = Deadline(timeout), Deadline(SUPERVISOR_START_SECONDS)
        was_on = False
        while self.boots < boots:
            is_on = self.is_on
            was_on = was_on or is_on
            if deadline.passed or ((was_on or supervisor_start.passed) and not is_on and self.boots < boots):
                waited = f"{deadline.waited:.0f} s"
                raise LabError(f"{self.folder.name} did not boot within {waited}: {self.console_end()}")
            time.sleep(0.02)

    def power_off(self) -> None:
        """Kill all processes of the machine at once and keep its disk; does nothing if it is off."""
        self.signal_power_off()
        if not self._wait_off():
            raise LabError(f"the supervisor of {self.folder.name} does not end: {self.console_end()}")

    def signal_power_off(self) -> None:
        """Start the same and return before it is done."""
        self._signal_supervisor(signal.SIGTERM)

    def _signal_supervisor(self, number: signal.Signals) -> None:
        if pid := self.supervisor_pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _wait_off(self, timeout: float = 15.0) -> bool:
        deadline = Deadline(timeout)
        while (is_on := self.is_on) and not deadline.passed:
            time.sleep(0.02)
        return not is_on

    def remove(self) -> None:
        """End the machine's processes and mounts, in whatever state it and its supervisor are."""
        self.signal_power_off()
        if not self._wait_off():
            self._signal_supervisor(signal.SIGKILL)
            self._wait_off()
        self.clean_up()

    def clean_up(self) -> None:
        """Remove what a killed supervisor left; only for a machine that is off."""
        running = Running.load(self.folder)
        machine_supervisor.clean_up(self.folder, running.cgroups if running else ())

    @property
    def state(self) -> str:
        """Off, frozen, cut off or on."""
        if not self.is_on:
            return "off"
        if self.is_frozen:
            return "frozen"
        return "cut off" if self.spec.cut else "on"

    def freeze(self, *, frozen: bool) -> None:
        """Freeze or thaw all processes of the machine; raise LabError if it is off."""
        running = Running.load(self.folder)
        if running is None or not self.is_on:
            raise LabError(f"{self.folder.name} is off: start it first")
        cgroup.freeze(running.cgroups, frozen=frozen)
        deadline = Deadline(FREEZE_SECONDS)
        while self.is_frozen != frozen:
            if deadline.passed:
                raise LabError(f"{self.folder.name} does not {'freeze' if frozen else 'thaw'}")
            time.sleep(0.01)

    def cut(self, *, cut: bool) -> None:
        """Detach the machine's interfaces from their bridges or attach them again; holds over a reboot."""
        spec = dataclasses.replace(self.spec, cut=cut)
        spec.save(self.folder)
        network.apply_cut(spec)

    def add_interface(self, interface: Interface) -> None:
        """Add an interface, at once if the machine is on, and at every boot from now on."""
        spec = self.spec
        spec = dataclasses.replace(spec, interfaces=(*spec.interfaces, interface))
        spec.save(self.folder)
        if self.is_on:
            network.add_interface(spec, len(spec.interfaces) - 1)

    def move(self, interface: Interface) -> None:
        """Replace the machine's first interface, at once if it is on; raise LabError if it is cut off."""
        spec = self.spec
        if spec.cut:
            raise LabError(f"{spec.name} is cut off: heal it before it moves")
        dataclasses.replace(spec, interfaces=(interface, *spec.interfaces[1:])).save(self.folder)
        if self.is_on:
            network.move(spec, interface)

    def console_end(self, lines: int = 5) -> str:
        """Return the last lines of the console, for an error message."""
        with contextlib.suppress(FileNotFoundError):
            text = (self.folder / "console").read_text(encoding="utf-8", errors="replace")
            return " / ".join(text.strip().splitlines()[-lines:]) or "its console is empty"
        return "it has no console yet"
