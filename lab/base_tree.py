# SPDX-License-Identifier: GPL-3.0-or-later
"""The base tree: a read-only Debian root file system below every machine's disk, built once.

A hash of its recipe names its folder. Another recipe so builds another tree, and running labs keep theirs.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lab import host
from lab.errors import LabError
from lab.records import write_atomically

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# python3-apt: Ansible's apt module needs it, and a lab machine cannot download it.
# python3-cryptography: the agent as one file needs it (docs/install.md).
# python3, not python3-minimal: the latter has no json.
PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "python3",
    "python3-venv",
    "python3-apt",
    "python3-cryptography",
    "iproute2",
    "iputils-ping",
    "nftables",
    "wireguard-tools",
    "wireguard-go",
    "procps",
    "curl",
    "redis-server",
    "redis-tools",
    "python3-cryptography",
    "tcpdump",
    "iperf3",
    "ca-certificates",
)

EXCLUDED_PATHS = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*")

FILES = {
    "etc/resolv.conf": "",  # with an unreachable resolver, Ansible's facts take 10 s
    "etc/apt/sources.list": "",
    "etc/machine-id": "",  # a missing file means first boot, which enables every service by preset
    "etc/ssh/sshd_config.d/lab.conf": "UseDNS no\nMaxSessions 100\nMaxStartups 100\n",
}

# Roles enable services; each machine has its own name, keys and id; timers only cost time.
REMOVED = (
    "etc/hostname",
    "etc/ssh/ssh_host_*",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/apt/sources.list.d/*",
    "etc/systemd/system/redis.service",
    "etc/systemd/system/*.wants/redis-server.service",
    "etc/systemd/system/*.wants/getty@tty1.service",
    "etc/systemd/system/*.wants/e2scrub_reap.service",
    "etc/systemd/system/*.wants/systemd-pstore.service",
    "etc/systemd/system/timers.target.wants/*",
    "var/lib/systemd/deb-systemd-helper-enabled/*.wants/redis-server.service",
)


@dataclass(frozen=True)
class Recipe:
    """The inputs of a tree; the defaults are those of the lab's machines."""

    suite: str = "bookworm"
    packages: tuple[str, ...] = PACKAGES
    files: Mapping[str, str] = field(default_factory=lambda: FILES)
    removed: tuple[str, ...] = REMOVED

    @property
    def digest(self) -> str:
        """The tree's name: 12 hex digits."""
        recipe = [self.suite, self.packages, EXCLUDED_PATHS, self.files, self.removed]
        return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:12]


# The default of a lab's machines.
MACHINE = Recipe()


def source_lines(index_targets: str, suite: str, keyring: Path = KEYRING) -> list[str]:
    """Return this host's apt sources of the suite, in the format of sources.list(5).

    `index_targets` is the output of `apt-get indextargets` in the format URI|RELEASE|COMPONENT.
    """
    releases = {suite, f"{suite}-updates", f"{suite}-security"}
    lines = []
    for target in index_targets.splitlines():
        uri, release, component = target.split("|")
        if release in releases and component == "main":
            lines.append(f"deb [signed-by={keyring}] {uri} {release} {component}")
    return lines


def _sources(suite: str) -> list[str]:
    """Return this host's sources of the suite; without any, mmdebstrap uses Debian's."""
    fields = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
    targets = host.run(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"], check=False)
    return source_lines(targets, suite)


def _debootstrap(recipe: Recipe, tree: Path, log: Path, report: Callable[[str], None]) -> None:
    """Install the recipe's packages into `tree`, with this host's apt settings (proxy and the like)."""
    settings = tree.with_suffix(".apt.conf")
    acquire = host.run(["apt-config", "dump", "--format", '%f "%v";%n', "Acquire"])
    write_atomically(settings, acquire, 0o600)
    command = [
        "mmdebstrap",
        "--variant=minbase",
        f"--aptopt={settings}",
        f"--include={','.join(recipe.packages)}",
    ]
    command += [f"--dpkgopt=path-exclude={path}" for path in EXCLUDED_PATHS]
    command += [recipe.suite, str(tree), *_sources(recipe.suite)]
    try:
        code = _run_with_progress(command, log, report)
    finally:
        settings.unlink()
    if code:
        log_end = " / ".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-4:])
        raise LabError(f"mmdebstrap could not build the base tree, see {log}: {log_end}")


def _run_with_progress(command: list[str], log: Path, report: Callable[[str], None]) -> int:
    """Run mmdebstrap into a log, report the lines that name its steps, and return its exit code."""
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            if line.startswith("I: "):
                report("  " + line[3:].strip())
        return process.wait()


def finish(tree: Path, files: Mapping[str, str], removed: Iterable[str]) -> None:
    """Turn a fresh installation into a base tree: remove what each machine creates, write our files."""
    for pattern in removed:
        # Not Path.glob, which skips a link whose target exists only inside the tree.
        for name in glob.glob(pattern, root_dir=tree):  # noqa: PTH207
            (tree / name).unlink()
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text, encoding="utf-8")


def build(recipe: Recipe, tree: Path, log: Path, report: Callable[[str], None]) -> None:
    """Build the recipe's tree in a new folder (about half a minute)."""
    host.require({"mmdebstrap": "mmdebstrap"})
    _debootstrap(recipe, tree, log, report)
    finish(tree, recipe.files, recipe.removed)


def build_once(folder: Path, build_in: Callable[[Path], None]) -> Path:
    """Return `folder`; if it is missing, `build_in` builds it under a temporary name first."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            incomplete = folder.with_name(f"{folder.name}.incomplete")
            shutil.rmtree(incomplete, ignore_errors=True)
            build_in(incomplete)
            incomplete.rename(folder)
    return folder


def ensure(cache: Path, report: Callable[[str], None], recipe: Recipe = MACHINE) -> Path:
    """Return the base tree's folder; build it first if this recipe has none yet."""
    tree = cache / "lab" / f"base-{recipe.digest}"

    def build_in(folder: Path) -> None:
        report(f"building the base tree, once, in {tree}")
        build(recipe, folder, tree.with_suffix(".log"), report)

    return build_once(tree, build_in)
