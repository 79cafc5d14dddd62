# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands on a machine over ssh, as any client would send them: paramiko, host keys checked."""

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

from lab.errors import CommandFailed, Unreachable
from lab.patience import Deadline

CONNECT_TIMEOUT = 10.0
"""Seconds, as all here on an idle host; a command may run for long, but a machine of a lab answers at once or
not at all."""
TRY_SECONDS = 5.0
"""For one look at whether an ssh server speaks, before the next."""
READ_SECONDS = 30.0
"""For what is left to read of a command that has ended."""

Command = str | Sequence[str]
"""A string goes to root's shell as it is; a list is quoted word by word."""

Dial = Callable[[float], socket.socket]
"""Opens a connection to a machine's ssh server within so many seconds; OSError if there is none."""


@dataclass(frozen=True)
class Result:
    """What a command came to."""

    rc: int
    """Exit code; -1 if a signal ended it."""
    stdout: str
    stderr: str


def as_text(command: Command) -> str:
    """The line that goes over the wire."""
    return command if isinstance(command, str) else shlex.join(command)


class _Reader(threading.Thread):
    """Collects one stream of a channel while others wait for its end."""

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
                except BrokenPipeError:  # whoever read it, such as head(1), has enough
                    self._echo = None
        self.first_line.set()

    @property
    def text(self) -> str:
        return b"".join(self._chunks).decode(errors="replace")


class Background:
    """A command that runs on while the test does something else, such as a ping."""

    def __init__(self, client: Client, command: str) -> None:
        self.command = command
        self._client = client
        # sshd gives each command a process group of its own; its number is the first line.
        self._channel = client.channel(f"echo $$; {command}")
        self._out = _Reader(self._channel.makefile("rb"))
        self._err = _Reader(self._channel.makefile_stderr("rb"))
        if not self._out.first_line.wait(Deadline(CONNECT_TIMEOUT).left) or not self._out.text:
            raise Unreachable(f"{client.name} did not start {command!r} in time")
        self.group = int(self._out.text.split("\n", 1)[0])

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return not self._channel.exit_status_ready()

    @property
    def stdout(self) -> str:
        """What it has written to its standard output so far."""
        return self._out.text.partition("\n")[2]

    @property
    def stderr(self) -> str:
        """What it has written to its standard error so far."""
        return self._err.text

    def wait(self, timeout: float = 30.0) -> Result:
        """Its result once it has ended by itself; Unreachable if that takes longer."""
        deadline = Deadline(timeout)
        if not self._channel.status_event.wait(deadline.left):
            waited = f"{deadline.waited:.0f} s"
            raise Unreachable(f"{self._client.name}: {self.command!r} still runs after {waited}")
        self._out.join(READ_SECONDS)
        self._err.join(READ_SECONDS)
        output = self._out.text.split("\n", 1)[1]
        return Result(self._channel.recv_exit_status(), output, self._err.text)

    def stop(self, signal: str = "INT", timeout: float = 10.0) -> Result:
        """Send it a signal (INT makes ping print its sum), and give back its result."""
        if self.running:
            self._client.run(f"kill -{signal} -- -{self.group}", check=False)
        return self.wait(timeout)


class Client:
    """One machine's ssh connection: made when first needed, again when it broke."""

    def __init__(self, name: str, dial: Dial, key: Path, known_hosts: Path) -> None:
        self.name = name
        self._dial = dial
        self._key = key
        self._known_hosts = known_hosts
        self._connection: paramiko.SSHClient | None = None

    def close(self) -> None:
        """Forget the connection; the next command makes a new one."""
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
            sock=self._dial(timeout),
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
            raise Unreachable(f"{self.name} hung up")
        return transport

    def channel(self, command: str, timeout: float = CONNECT_TIMEOUT) -> paramiko.Channel:
        """Start a command; Unreachable if the machine does not take it within `timeout` seconds."""
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
        """Run a command to its end; `echo` (out, err) gets each line as it comes.

        Raises Unreachable if there is no answer within `timeout` seconds (more on a busy host), and
        CommandFailed, if `check`, where the exit code is not 0.
        """
        text = as_text(command)
        deadline = Deadline(timeout)
        channel = self.channel(text, min(timeout, CONNECT_TIMEOUT))
        to_out, to_err = echo or (None, None)
        out = _Reader(channel.makefile("rb"), to_out)
        err = _Reader(channel.makefile_stderr("rb"), to_err)
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
            said = (result.stderr or result.stdout).strip()
            raise CommandFailed(f"{self.name}: {text!r} ended with {result.rc}: {said}")
        return result


def wait_for_banner(name: str, dial: Dial, timeout: float, is_on: Callable[[], bool]) -> None:
    """Wait until an ssh server speaks; Unreachable if none does in time or the machine went off."""
    deadline = Deadline(timeout)
    while True:
        left = deadline.left
        if left <= 0:
            raise Unreachable(f"{name} shows no ssh server within {deadline.waited:.0f} s")
        if not is_on():
            raise Unreachable(f"{name} went off")
        try:
            with dial(min(left, TRY_SECONDS)) as connection:
                connection.settimeout(min(left, TRY_SECONDS))
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            pass
        time.sleep(0.03)
