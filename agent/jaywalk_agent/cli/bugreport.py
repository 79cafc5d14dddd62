# SPDX-License-Identifier: GPL-3.0-or-later
"""``jaywalk bugreport``: one archive with the facts that a maintainer needs, without secrets.

A function or a program with a limit of time and size collects each part.  The archive names parts that
failed, and has the others.
"""

from __future__ import annotations

import io
import os
import platform
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jaywalk.core.errors import JaywalkError
from jaywalk.core.ownership import read_shared
from jaywalk.core.runner import NAMESPACES
from jaywalk.core.text import printable
from jaywalk.core.validation import iso_time
from jaywalk.service.version import installed_version

from ..config import AgentConfig
from ..options import CONFIG_DIR, OPTIONS, SECRET_OPTIONS
from . import redaction

# Of one part; a snapshot with ten thousand peers has 3 MB.
MAX_PART_BYTES = 4 << 20
# Of one program.
PROGRAM_SECONDS = 20.0
DOCTOR_SECONDS = 90.0
MAX_JOURNAL_LINES = 3000
CONNECT_SECONDS = 3.0
WORKERS = 4
# Not the command nor the environment, which may have a password.
UNIT_PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,Result,UnitFileState,FragmentPath,DropInPaths,MainPID,NRestarts,"
    "ExecMainStartTimestamp,ExecMainExitTimestamp,ExecMainCode,ExecMainStatus,StatusText,WatchdogUSec"
)
SYSCTLS = (
    r"^net\.(ipv4\.(ip_forward|conf\..*\.(rp_filter|forwarding|src_valid_mark))"
    r"|ipv6\.conf\..*\.(disable_ipv6|forwarding|accept_ra)|core\.[rw]mem_(max|default))"
)


@dataclass(frozen=True)
class Part:
    """One file of the archive; ``error`` is why it is incomplete."""

    name: str
    text: str
    error: str = ""

    @property
    def data(self) -> bytes:
        return self.text.encode(errors="replace")

    @property
    def size(self) -> int:
        return len(self.data)


def collect(config: AgentConfig, options: Mapping[str, str]) -> list[Part]:
    """Collects all parts, without secrets."""
    secrets = redaction.secrets_of(options, CONFIG_DIR, [config.private_key_file])
    collectors = _collectors(config, options)
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="bugreport") as pool:
        parts = list(pool.map(lambda pair: _collected(*pair), collectors.items()))
    return [
        Part(
            part.name,
            redaction.without_secrets(part.text, secrets),
            redaction.without_secrets(part.error, secrets),
        )
        for part in parts
    ]


def write(path: Path, parts: Sequence[Part]) -> None:
    """Writes the archive, readable for its owner alone; raises ``JaywalkError`` without a partial file."""
    folder = path.name.removesuffix(".gz").removesuffix(".tgz").removesuffix(".tar")
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=".jaywalk-", dir=path.absolute().parent)
        with os.fdopen(handle, "wb") as stream, tarfile.open(fileobj=stream, mode="w:gz") as archive:
            for part in parts:
                member = tarfile.TarInfo(f"{folder}/{part.name}")
                member.size, member.mode, member.mtime = part.size, 0o600, int(time.time())
                archive.addfile(member, io.BytesIO(part.data))
        Path(temporary).replace(path)
    except OSError as error:
        raise JaywalkError(
            f"cannot write {path} ({error.strerror})", "give another file with --output"
        ) from None
    finally:
        with suppress(OSError):
            if temporary:
                Path(temporary).unlink()


def default_name(config: AgentConfig) -> str:
    """A file name with the node, the zone and the time."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return f"jaywalk-bugreport-{config.name}-{config.zone}-{stamp}.tar.gz"


def contents(config: AgentConfig, parts: Sequence[Part]) -> Part:
    """The archive's table of contents."""
    lines = [
        f"jaywalk {installed_version()}, node {config.name}, zone {config.zone}, {iso_time(time.time())}",
        "Without private keys, preshared keys and passwords; with names, public keys and addresses.",
        "",
        *(f"{part.name:24}{part.size:>9} bytes  {part.error}".rstrip() for part in parts),
    ]
    return Part("CONTENTS.txt", "\n".join(map(printable, lines)) + "\n")


def _collected(name: str, collector: Callable[[], tuple[str, str]]) -> Part:
    try:
        text, error = collector()
    except Exception as failure:
        # A failing collector does not stop the others.
        text, error = "", f"failed: {failure}"
    if len(text) > MAX_PART_BYTES:
        text, error = text[:MAX_PART_BYTES], error or f"cut at {MAX_PART_BYTES} bytes"
    return Part(name, text, error)


def _collectors(config: AgentConfig, options: Mapping[str, str]) -> dict[str, Callable[[], tuple[str, str]]]:
    here: dict[str, Callable[[], tuple[str, str]]] = {
        "doctor.txt": lambda: _own_command(options, "doctor", seconds=DOCTOR_SECONDS),
        "status.json": lambda: _own_command(options, "status", "--json"),
        "journal.txt": lambda: _journal(config),
        "versions.txt": lambda: _programs(_VERSIONS, _versions()),
        "settings.txt": lambda: (_settings(options), ""),
        "units.txt": lambda: _units(config),
        "time.txt": lambda: _programs([["date", "--iso-8601=seconds"], ["timedatectl"], ["uptime"]]),
        "controller.txt": lambda: (_controller(config), ""),
        "sockets.txt": lambda: _programs([["ss", "-lunp"], ["ss", "-tn"]]),
        "snapshot.json": lambda: _snapshot(config),
        "agent-status.json": lambda: _file(config.status_file),
        "agent-paths.json": lambda: _file(config.paths_file),
        "run-folder.txt": lambda: _programs([["ls", "-la", str(config.run_dir), str(config.state_dir)]]),
    }
    here |= _network("", [])
    if config.netns:
        here |= _network(f"-{config.netns}", ["nsenter", f"--net={NAMESPACES}/{config.netns}", "--"])
    return here


def _network(suffix: str, enter: Sequence[str]) -> dict[str, Callable[[], tuple[str, str]]]:
    """The collectors of one network namespace."""
    ip = [["ip", "-s", "-d", "link", "show"]]
    ip += [
        ["ip", *family, *what]
        for family in (["-4"], ["-6"])
        for what in (["address", "show"], ["route", "show", "table", "all"], ["rule", "show"])
    ]
    return {
        f"wg{suffix}.txt": lambda: _wireguard(enter),
        f"ip{suffix}.txt": lambda: _programs([[*enter, *command] for command in ip]),
        f"nft{suffix}.txt": lambda: _programs([[*enter, "nft", "list", "ruleset"]]),
        f"sysctl{suffix}.txt": lambda: _programs([[*enter, "sysctl", "--all", "--pattern", SYSCTLS]]),
    }


_VERSIONS = (
    ["wg", "--version"],
    ["ip", "-V"],
    ["nft", "--version"],
    ["wireguard-go", "--version"],
    ["systemctl", "--version"],
    ["uname", "-a"],
)


def _versions() -> str:
    system = platform.platform()
    with suppress(OSError, KeyError):
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    return (
        f"jaywalk {installed_version()}\nPython {sys.version}\n{system}\n"
        f"program {sys.argv[0]}, interpreter {sys.executable}\n\n"
    )


def _settings(options: Mapping[str, str]) -> str:
    """The options in force, by variable, and the service files as they are."""
    lines = ["# in force"]
    for option, value in sorted(options.items()):
        shown = redaction.HIDDEN if option in SECRET_OPTIONS else value
        lines.append(f"{OPTIONS[option].variable}={shown}")
    for path in sorted(CONFIG_DIR.glob("*")) if CONFIG_DIR.is_dir() else []:
        lines.append(f"\n# {path}, mode {path.stat().st_mode & 0o7777:04o}")
        if path.suffix == ".env":
            lines.append(path.read_text(encoding="utf-8", errors="replace").rstrip())
    return "\n".join(lines) + "\n"


def _controller(config: AgentConfig) -> str:
    """Whether the controller accepts connections now; sends nothing."""
    lines = []
    address = config.controller_place() if config.controller else None
    servers = (
        [] if address is None else [*address.sentinels, *address.nodes] or [(address.host, address.port)]
    )
    for host, port in servers:
        started = time.monotonic()
        try:
            with socket.create_connection((host, port), CONNECT_SECONDS) as link:
                milliseconds, peer = 1000 * (time.monotonic() - started), link.getpeername()[0]
                lines.append(f"{host}:{port} accepts a connection after {milliseconds:.0f} ms, as {peer}")
        except OSError as error:
            lines.append(f"{host}:{port} accepts no connection: {error}")
    return "\n".join(lines or ["no controller is configured"]) + "\n"


def _wireguard(enter: Sequence[str]) -> tuple[str, str]:
    text, error = _run([*enter, "wg", "show", "all", "dump"])
    return (text, error) if error else (redaction.without_keys(text), "")


def _units(config: AgentConfig) -> tuple[str, str]:
    patterns = [f"jaywalk-agent@{config.zone}.service", "jaywalk-*", "redis*", "valkey*"]
    return _programs(
        [
            ["systemctl", "show", "--no-pager", "--property", UNIT_PROPERTIES, *patterns],
            ["systemctl", "list-units", "--all", "--no-pager", "--plain", *patterns],
        ]
    )


def _journal(config: AgentConfig) -> tuple[str, str]:
    patterns = ("jaywalk-*", f"jaywalk-agent@{config.zone}")
    units = [argument for pattern in patterns for argument in ("--unit", pattern)]
    output = ["--no-pager", "--output", "short-iso-precise", "--lines", str(MAX_JOURNAL_LINES)]
    return _run(["journalctl", *output, *units])


def _own_command(
    options: Mapping[str, str], *command: str, seconds: float = PROGRAM_SECONDS
) -> tuple[str, str]:
    """The output of a command of this program, in a process of its own that can be ended."""
    variables = {OPTIONS[name].variable: text for name, text in options.items() if name != "agent_mode"}
    # The child imports this program from where we did, also from one file (zipapp).
    path = os.pathsep.join(folder for folder in sys.path if folder)
    environment = {**os.environ, **variables, "PYTHONPATH": path}
    text, error = _run([sys.executable, "-m", "jaywalk_agent.cli.main", *command], environment, seconds)
    # The exit code is the state of the node, which is in the text too.
    return text, "" if error == "exit code 1" else error


def _snapshot(config: AgentConfig) -> tuple[str, str]:
    """The agent's last copy of the zone, from memory if the disk was full."""
    volatile = config.volatile_snapshot_file
    return _file(volatile if volatile.exists() else config.snapshot_file)


def _file(path: Path) -> tuple[str, str]:
    return read_shared(str(path))[: MAX_PART_BYTES + 1], ""


def _programs(commands: Sequence[Sequence[str]], head: str = "") -> tuple[str, str]:
    """The outputs of programs, each under its command."""
    texts, errors = [head], []
    for argv in commands:
        text, error = _run(argv)
        texts.append(f"$ {' '.join(argv)}\n{text}\n")
        if error:
            errors.append(f"{argv[0]}: {error}")
    return "".join(texts), "; ".join(errors)


def _run(
    argv: Sequence[str], environment: Mapping[str, str] | None = None, seconds: float = PROGRAM_SECONDS
) -> tuple[str, str]:
    """A program's output up to ``MAX_PART_BYTES``, and its error; ends it after ``seconds``."""
    try:
        child = subprocess.Popen(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return "", f"cannot be run ({error.strerror})"
    late = threading.Event()

    def end() -> None:
        late.set()
        _kill(child)

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        assert child.stdout is not None
        data = child.stdout.read(MAX_PART_BYTES + 1)
        if len(data) > MAX_PART_BYTES:
            _kill(child)
        code = child.wait()
    finally:
        timer.cancel()
    text = data[:MAX_PART_BYTES].decode(errors="replace")
    if len(data) > MAX_PART_BYTES:
        return text, f"cut at {MAX_PART_BYTES} bytes"
    if late.is_set():
        return text, f"ended after {seconds:.0f} s"
    return text, f"exit code {code}" if code else ""


def _kill(child: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
