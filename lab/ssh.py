# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands on a machine over ssh, by paramiko with host keys checked."""

from __future__ import annotations

import shlex
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import paramiko

from lab.deadline import Deadline
from lab.errors import CommandFailed, Unreachable

# Time limits on an idle host. A command may run for long, but a machine answers at once or not at all.
CONNECT_SECONDS = 10.0
# One attempt to read an ssh server's banner.
BANNER_SECONDS = 5.0
# The rest of the output of a command that has ended.
READ_SECONDS = 30.0

# A string goes to root's shell as it is; a list is quoted word by word.
Command = str | Sequence[str]

# Opens a connection to a machine's ssh server within a number of seconds; raises OSError if there is none.
Connect = Callable[[float], socket.socket]


@dataclass(frozen=True)
class Result:
    """The result of a command; `rc` is its exit code, or -1 if a signal ended it."""

    rc: int
    stdout: str
    stderr: str


def as_text(command: Command) -> str:
    """Return the command line for the remote shell."""
    return command if isinstance(command, str) else shlex.join(command)


class _Reader(threading.Thread):
    """A thread that collects one stream of a channel."""

    def __init__(self, stream: paramiko.ChannelFile, echo: TextIO | None = None) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self._echo = echo
        self._chunks: list[bytes] = []
        self.first_line = threading.Event()
        self.start()

    def run(self) -> None:
        for line in iter(self._stream.readline, b""):
            self._chunks.append(line)
            self.first_line.set()
            if self._echo is not None:
                try:
                    self._echo.write(line.decode(errors="replace"))
                    self._echo.flush()
                except BrokenPipeError:  # its reader, such as head(1), has exited
                    self._echo = None
        self.first_line.set()

    @property
    def text(self) -> str:
        return b"".join(self._chunks).decode(errors="replace")


class Background:
    """A command that runs in the background of a test, such as a ping."""

    def __init__(self, client: Client, command: str) -> None:
        self.command = command
        self._client = client
        # sshd runs each command in its own process group; the group's number is the first line.
        self._channel = client.channel(f"echo $$; {command}")
        self._out = _Reader(self._channel.makefile("rb"))
        self._err = _Reader(self._channel.makefile_stderr("rb"))
        if not self._out.first_line.wait(Deadline(CONNECT_SECONDS).left) or not self._out.text:
            raise Unreachable(f"{client.name} did not start {command!r} in time")
        self.group = int(self._out.text.split("\n", 1)[0])

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return not self._channel.exit_status_ready()

    @property
    def stdout(self) -> str:
        """Its standard output so far."""
        return self._out.text.partition("\n")[2]

    @property
    def stderr(self) -> str:
        """Its standard error so far."""
        return self._err.text

    def wait(self, timeout: float = 30.0) -> Result:
        """Wait until it ends by itself and return its result; raise Unreachable if that takes longer."""
        deadline = Deadline(timeout)
        if not self._channel.status_event.wait(deadline.left):
            waited = f"{deadline.waited:.0f} s"
            raise Unreachable(f"{self._client.name}: {self.command!r} still runs after {waited}")
        self._out.join(READ_SECONDS)
        self._err.join(READ_SECONDS)
        output = self._out.text.split("\n", 1)[1]
        return Result(self._channel.recv_exit_status(), output, self._err.text)

    def stop(self, signal: str = "INT", timeout: float = 10.0) -> Result:
        """Send it a signal (INT makes ping print its summary), and return its result."""
        if self.running:
            self._client.run(f"kill -{signal} -- -{self.group}", check=False)
        return self.wait(timeout)


class Client:
    """One machine's ssh connection: opened at first use, and again after a failure."""

    def __init__(self, name: str, connect: Connect, key: Path, known_hosts: Path) -> None:
        self.name = name
        self._connect = connect
        self._key = key
        self._known_hosts = known_hosts
        self._connection: paramiko.SSHClient | None = None

    def close(self) -> None:
        """Close the connection; the next command opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _transport(self, timeout: float) -> paramiko.Transport:
        transport = self._connection.get_transport() if self._connection else None
        if transport is not None and transport.is_active():
            return transport
        self.close()
        connection = paramiko.SSHClient()
        connection.load_host_keys(str(self._known_hosts))
        connection.set_missing_host_key_policy(paramiko.RejectPolicy())
        connection.connect(
            self.name,
            sock=self._connect(timeout),
            username="root",
            key_filename=str(self._key),
            timeout=timeout,
            banner_timeout=timeout,
            auth_timeout=timeout,
            allow_agent=False,
            look_for_keys=False,
        )
        self._connection = connection
        transport = connection.get_transport()
        if transport is None:
            raise Unreachable(f"{self.name} closed the connection")
        return transport

    def channel(self, command: str, timeout: float = CONNECT_SECONDS) -> paramiko.Channel:
        """Start a command; raise Unreachable if the machine does not accept it within `timeout` seconds."""
        seconds = Deadline(timeout).left
        try:
            channel = self._transport(seconds).open_session(timeout=seconds)
            channel.exec_command(command)
        except (OSError, EOFError, paramiko.SSHException) as error:
            self.close()
            raise Unreachable(f"{self.name} does not answer over ssh: {error}") from error
        return channel

    def run(
        self,
        command: Command,
        timeout: float = 30.0,
        check: bool = True,
        stdin: str = "",
        echo: tuple[TextIO, TextIO] | None = None,
    ) -> Result:
        """Run a command to its end; each line of output goes to `echo` (out, err) at once.

        Raises Unreachable if it does not end within `timeout` seconds (more on a busy host) and, with
        `check`, CommandFailed if the exit code is not 0.
        """
        text = as_text(command)
        deadline = Deadline(timeout)
        channel = self.channel(text, min(timeout, CONNECT_SECONDS))
        echo_out, echo_err = echo or (None, None)
        out = _Reader(channel.makefile("rb"), echo_out)
        err = _Reader(channel.makefile_stderr("rb"), echo_err)
        if stdin:
            channel.sendall(stdin.encode())
        channel.shutdown_write()
        if not channel.status_event.wait(deadline.left):
            channel.close()
            self.close()
            raise Unreachable(f"{self.name}: no end of {text!r} within {deadline.waited:.0f} s")
        out.join(READ_SECONDS)
        err.join(READ_SECONDS)
        result = Result(channel.recv_exit_status(), out.text, err.text)
        channel.close()
        if check and result.rc:
            output = (result.stderr or result.stdout).strip()
            raise CommandFailed(f"{self.name}: {text!r} ended with {result.rc}: {output}")
        return result


def wait_for_banner(name: str, connect: Connect, timeout: float, is_on: Callable[[], bool]) -> None:
    """Wait for an ssh server's banner; raise Unreachable if none comes in time or the machine went off."""
    deadline = Deadline(timeout)
    while True:
        left = deadline.left
        if left <= 0:
            raise Unreachable(f"{name} has no ssh server after {deadline.waited:.0f} s")
        if not is_on():
            raise Unreachable(f"{name} went off")
        try:
            with connect(min(left, BANNER_SECONDS)) as connection:
                connection.settimeout(min(left, BANNER_SECONDS))
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            pass
        time.sleep(0.03)
