# SPDX-License-Identifier: GPL-3.0-or-later
"""Userspace WireGuard on Linux, for a kernel without the module: a program for each interface.

The program runs in a systemd unit of its own where there is systemd.  Only root may start units, so the
agent's service, which is not root, asks the service jaywalk-userspace@.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Sequence

from ..core.errors import CommandFailed, JaywalkError
from ..core.runner import Finished, Runner

PROGRAMS = ("wireguard-go", "boringtun-cli")
TUN = "/dev/net/tun"
NAMESPACE = "/proc/self/ns/net"
# With the agent's socket systemd-run would notify systemd about itself, which systemd refuses and logs.
SYSTEMD_RUN = ("env", "--unset=NOTIFY_SOCKET", "systemd-run", "--quiet", "--collect")
CONTROL_SOCKETS = "/var/run/wireguard"
# The socket of jaywalk-userspace@, which starts and stops these units and does nothing else.
SERVICE = "/run/jaywalk-userspace.socket"
SERVICE_SECONDS = 20.0
# Within this time a program ends; it took 1.5 s with 1,000 peers.
END_SECONDS = 5.0
POLL_SECONDS = 0.02


def create(runner: Runner, name: str, restarts: bool) -> None:
    """Starts a program for the interface.

    With ``restarts`` systemd starts a program again that was killed; its interface is bare then.
    """
    program = require_program()
    await_end(runner, name)
    if _has_service():
        argv = ["start", "on-failure" if restarts else "no", program, name]
        started = _ask_service(argv)
    else:
        argv = [*_own_unit(runner, name, restarts), program, name]
        started = runner.run(argv)
    if started.returncode != 0 and not _restarts_itself(runner, name, started.stderr):
        if "already loaded" in started.stderr:
            raise JaywalkError(
                f"{_unit(name)} runs, and {name} is not here: somebody moved it to another network namespace",
                f"move it back, or end it ('systemctl stop {_unit(name)}')",
            )
        # Around the error stands a box that advertises the kernel's WireGuard.
        lines = [line for line in started.stderr.strip().splitlines() if line.isascii()]
        raise CommandFailed(argv, started.returncode, lines[-1] if lines else "")


def stop(runner: Runner, name: str) -> None:
    """Ends the program of a deleted interface.

    Else the next interface of that name would find the control socket, or the unit, still in use.
    """
    if _has_service():
        _ask_service(["stop", "no", "none", name])
    elif _has_systemd():
        runner.run(["systemctl", "stop", _unit(name)])
    await_end(runner, name)


def require_program() -> str:
    """The installed program; raises ``JaywalkError`` where there is none, or no device for it."""
    program = next((program for program in PROGRAMS if shutil.which(program)), None)
    if program is None:
        raise JaywalkError(
            "this kernel has no WireGuard and there is no userspace implementation",
            "load the wireguard module or install the package wireguard-go",
        )
    if not os.path.exists(TUN):
        raise JaywalkError(
            f"{TUN} is missing and {program} needs it",
            "run 'modprobe tun', or pass the device into this container",
        )
    return program


def link_exists(runner: Runner, name: str) -> bool:
    """Whether there is a link of that name, of whatever kind."""
    return runner.run(["ip", "link", "show", "dev", name]).returncode == 0


def await_end(runner: Runner, name: str) -> None:
    """Waits, but not for ever, until no program listens on the control socket.

    A program whose interface was deleted by hand is about to end; one that has its interface is not, since
    systemd has just started it again.
    """
    deadline = time.monotonic() + END_SECONDS
    while _listens(f"{CONTROL_SOCKETS}/{name}.sock") and time.monotonic() < deadline:
        if link_exists(runner, name):
            return
        time.sleep(POLL_SECONDS)


def _restarts_itself(runner: Runner, name: str, stderr: str) -> bool:
    """Whether systemd restarts a killed program, and so refused to start another; waits for the restart."""
    deadline = time.monotonic() + END_SECONDS
    while "already loaded" in stderr and time.monotonic() < deadline:
        if link_exists(runner, name) and runner.run(["wg", "show", name, "listen-port"]).returncode == 0:
            return True
        time.sleep(POLL_SECONDS)
    return False


def _own_unit(runner: Runner, name: str, restarts: bool) -> list[str]:
    """Arguments that start a program in a unit of its own, so that it outlives the service that starts it.

    The unit gets this process's network namespace. Empty without systemd.
    """
    if not _has_systemd():
        return []
    if not _is_systemds_namespace(runner):
        where = f"NetworkNamespacePath=/proc/{os.getpid()}/ns/net"
    else:
        # A path by way of this process would keep the unit from its restart once this process has ended.
        where = "Restart=on-failure" if restarts else "Restart=no"
    return [
        *SYSTEMD_RUN,
        f"--unit={_unit(name)}",
        f"--description=Userspace WireGuard of {name}",
        "--service-type=forking",
        f"--property={where}",
    ]


def _is_systemds_namespace(runner: Runner) -> bool:
    """Whether systemd starts its units in this process's network namespace anyway.

    Asks systemd, since only a process with more rights than the agent may inspect process 1.
    """
    asked = runner.run([*SYSTEMD_RUN, "--pipe", "--wait", "readlink", NAMESPACE])
    return asked.returncode == 0 and asked.stdout.strip() == os.readlink(NAMESPACE)


def _has_systemd() -> bool:
    return os.path.isdir("/run/systemd/system") and shutil.which("systemd-run") is not None


def _has_service() -> bool:
    return os.geteuid() != 0 and os.path.exists(SERVICE)


def _ask_service(words: Sequence[str]) -> Finished:
    """Sends a line to the service; it answers with the output of systemctl(1) and the exit code."""
    chunks = []
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(SERVICE_SECONDS)
            link.connect(SERVICE)
            link.sendall(" ".join(words).encode() + b"\n")
            while chunk := link.recv(4096):
                chunks.append(chunk)
    except OSError as error:
        return Finished(1, "", f"{SERVICE} does not answer ({error})")
    text, _newline, code = b"".join(chunks).decode(errors="replace").strip().rpartition("\n")
    return Finished(int(code), "", text) if code.isdigit() else Finished(1, "", f"{text} {code}")


def _unit(name: str) -> str:
    return f"jaywalk-wireguard-{name}.service"


def _listens(path: str) -> bool:
    """Whether a program is at the other end of a socket; a program that was killed leaves the file behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True
    return True
