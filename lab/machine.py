# SPDX-License-Identifier: GPL-3.0-or-later
"""One machine as this host sees it: its folder, its keeper, its power, its cables."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import signal
import time
from pathlib import Path

from lab import cgroup, detached, host, network, plan
from lab.errors import LabError
from lab.patience import Deadline
from lab.settings import control_sockets
from lab.spec import Leg, MachineSpec, Running

KEEPER_START = 5.0
"""Seconds after which a keeper without its lock is taken for dead."""


class Machine:
    """Power, cables and freezer of one machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def spec(self) -> MachineSpec:
        """What is written about it on disk now."""
        return MachineSpec.load(self.folder)

    @property
    def is_on(self) -> bool:
        """Whether a keeper holds its lock."""
        try:
            with (self.folder / "keeper.lock").open("r", encoding="ascii") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            pass
        return False

    @property
    def boots(self) -> int:
        """How often it was booted in its life."""
        running = Running.load(self.folder)
        return running.boots if running else 0

    @property
    def keeper(self) -> int:
        """Its keeper's process id; 0 if it is off."""
        running = Running.load(self.folder)
        return running.keeper if running is not None and self.is_on else 0

    @property
    def is_frozen(self) -> bool:
        """Whether its processes stand still."""
        running = Running.load(self.folder)
        return running is not None and cgroup.is_frozen(running.cgroups)

    def start(self) -> None:
        """Press the button; does not wait for the boot. LabError if it is on."""
        if self.is_on:
            raise LabError(f"{self.folder.name} is on already")
        self.sweep()
        for connection in control_sockets(self.spec.prefix).glob("*"):
            connection.unlink(missing_ok=True)  # it leads to a life that is over
        name = plan.machine_netns(self.spec.prefix, self.spec.name)
        if not detached.start("lab.keeper", [str(self.folder)], name, self.folder / "console"):
            raise LabError(f"the keeper of {self.folder.name} does not start: {self.console_end()}")

    def wait_booting(self, boots: int, timeout: float = 30.0) -> None:
        """Wait until its boot number `boots` has begun; LabError with the console's end if it does not."""
        whole, keeper = Deadline(timeout), Deadline(KEEPER_START)
        was_on = False
        while self.boots < boots:
            on = self.is_on
            was_on = was_on or on
            if whole.passed or ((was_on or keeper.passed) and not on and self.boots < boots):
                waited = f"{whole.waited:.0f} s"
                raise LabError(f"{self.folder.name} did not boot within {waited}: {self.console_end()}")
            time.sleep(0.02)

    def pull_cord(self) -> None:
        """Cut its power: all its processes die at once, its disk stays. Nothing to do if it is off."""
        self.signal_off()
        if not self._wait_off():
            raise LabError(f"the keeper of {self.folder.name} does not end: {self.console_end()}")

    def signal_off(self) -> None:
        """Cut its power and do not wait until all is cleared."""
        self._signal_keeper(signal.SIGTERM)

    def _signal_keeper(self, number: signal.Signals) -> None:
        if keeper := self.keeper:
            with contextlib.suppress(ProcessLookupError):
                os.kill(keeper, number)

    def _wait_off(self, timeout: float = 15.0) -> bool:
        deadline = Deadline(timeout)
        while (on := self.is_on) and not deadline.passed:
            time.sleep(0.02)
        return not on

    def remove(self) -> None:
        """Leave nothing of it running or mounted, whatever state it and its keeper are in."""
        self.signal_off()
        if not self._wait_off():
            self._signal_keeper(signal.SIGKILL)
            self._wait_off()
        self.sweep()

    def sweep(self) -> None:
        """Clear what a killed keeper left behind; only for a machine that is off."""
        running = Running.load(self.folder)
        if running is not None:
            cgroup.kill(running.cgroups)
            cgroup.remove(running.cgroups)
        network.unwire(self.spec)
        root = self.folder / "root"
        while root.is_mount():
            host.run(["umount", str(root)])

    @property
    def state(self) -> str:
        """Off, frozen, cut off or on."""
        if not self.is_on:
            return "off"
        if self.is_frozen:
            return "frozen"
        return "cut off" if self.spec.cut else "on"

    def freeze(self, *, frozen: bool) -> None:
        """Stop or continue all its processes; LabError if it is off."""
        running = Running.load(self.folder)
        if running is None or not self.is_on:
            raise LabError(f"{self.folder.name} is off: start it first")
        cgroup.freeze(running.cgroups, frozen=frozen)
        deadline = Deadline(10)
        while self.is_frozen != frozen:
            if deadline.passed:
                raise LabError(f"{self.folder.name} does not {'freeze' if frozen else 'thaw'}")
            time.sleep(0.01)

    def cut(self, *, cut: bool) -> None:
        """Take its cables out of the bridges or put them back; holds over a reboot."""
        spec = dataclasses.replace(self.spec, cut=cut)
        spec.save(self.folder)
        network.plug(spec)

    def add_leg(self, leg: Leg) -> None:
        """Give it one more interface, at once if it is on, and at every boot from now on."""
        spec = self.spec
        spec = dataclasses.replace(spec, legs=(*spec.legs, leg))
        spec.save(self.folder)
        if self.is_on:
            network.attach(spec, len(spec.legs) - 1)

    def move(self, leg: Leg) -> None:
        """Plug its first cable in elsewhere, at once if it is on; LabError if it is cut off."""
        spec = self.spec
        if spec.cut:
            raise LabError(f"{spec.name} is cut off: heal it before it moves")
        dataclasses.replace(spec, legs=(leg, *spec.legs[1:])).save(self.folder)
        if self.is_on:
            network.move(spec, leg)

    def console_end(self, lines: int = 5) -> str:
        """The last lines that it and its keeper said, for an error text."""
        with contextlib.suppress(FileNotFoundError):
            text = (self.folder / "console").read_text(encoding="utf-8", errors="replace")
            return " / ".join(text.strip().splitlines()[-lines:]) or "its console is empty"
        return "it has no console yet"
