# SPDX-License-Identifier: GPL-3.0-or-later
"""The base tree: one Debian that every machine's disk starts from, read-only, built once.

It lies in a folder named by a hash of its recipe, so another recipe builds another tree and no
running lab loses the ground under it.
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
from lab.spec import write_atomically

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# python3-apt: Ansible's apt module needs it, and a lab machine could not fetch it.
# python3, not -minimal: the latter has no json.
PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "python3",
    "python3-venv",
    "python3-apt",
    "iproute2",
    "iputils-ping",
    "nftables",
    "wireguard-tools",
    "wireguard-go",
    "procps",
    "curl",
    "redis-server",
    "redis-tools",
    "tcpdump",
    "iperf3",
    "ca-certificates",
)

PATHS_LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*")

FILES = {
    "etc/resolv.conf": "",  # an unreachable resolver costs each run of Ansible's facts 10 s
    "etc/apt/sources.list": "",
    "etc/machine-id": "",  # missing, it would mean a first boot, which enables every service by preset
    "etc/ssh/sshd_config.d/lab.conf": "UseDNS no\nMaxSessions 100\nMaxStartups 100\n",
}

# Services are for roles to enable; a machine has its own name, keys and id; timers only cost time.
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
    """All that decides a tree's content; the defaults are those of the lab's machines."""

    suite: str = "bookworm"
    packages: tuple[str, ...] = PACKAGES
    files: Mapping[str, str] = field(default_factory=lambda: FILES)
    removed: tuple[str, ...] = REMOVED

    @property
    def digest(self) -> str:
        """Names the tree: 12 hex digits."""
        recipe = [self.suite, self.packages, PATHS_LEFT_OUT, self.files, self.removed]
        return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:12]


MACHINE = Recipe()
"""What a machine of the lab starts from, if nobody says otherwise."""


def source_lines(index_targets: str, suite: str, keyring: Path = KEYRING) -> list[str]:
    """The lines of this host's own apt sources that lead to the suite, as sources.list(5) wants them.

    `index_targets` is what `apt-get indextargets` prints in the format URI|RELEASE|COMPONENT.
    """
    releases = {suite, f"{suite}-updates", f"{suite}-security"}
    lines = []
    for target in index_targets.splitlines():
        uri, release, component = target.split("|")
        if release in releases and component == "main":
            lines.append(f"deb [signed-by={keyring}] {uri} {release} {component}")
    return lines


def _sources(suite: str) -> list[str]:
    """This host's sources for the suite; none where it runs another one (mmdebstrap then takes Debian's)."""
    fields = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
    listed = host.run(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"], check=False)
    return source_lines(listed, suite)


def _debootstrap(recipe: Recipe, tree: Path, log: Path, report: Callable[[str], None]) -> None:
    """Install the recipe's packages into `tree` with this host's ways to a mirror (proxy and the like)."""
    settings = tree.with_suffix(".apt.conf")
    acquire = host.run(["apt-config", "dump", "--format", '%f "%v";%n', "Acquire"])
    write_atomically(settings, acquire, 0o600)
    command = [
        "mmdebstrap",
        "--variant=minbase",
        f"--aptopt={settings}",
        f"--include={','.join(recipe.packages)}",
    ]
    command += [f"--dpkgopt=path-exclude={path}" for path in PATHS_LEFT_OUT]
    command += [recipe.suite, str(tree), *_sources(recipe.suite)]
    try:
        code = _run_with_progress(command, log, report)
    finally:
        settings.unlink()
    if code:
        end = " / ".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-4:])
        raise LabError(f"mmdebstrap could not build the base tree, see {log}: {end}")


def _run_with_progress(command: list[str], log: Path, report: Callable[[str], None]) -> int:
    """Run mmdebstrap into a log, pass on the lines that name its steps, and give its exit code."""
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
    """Turn a fresh installation into a base: remove what a machine must make itself, write our settings."""
    for pattern in removed:
        # Not Path.glob, which overlooks a link whose target only exists inside the tree.
        for name in glob.glob(pattern, root_dir=tree):  # noqa: PTH207
            (tree / name).unlink()
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text, encoding="utf-8")


def build(recipe: Recipe, tree: Path, log: Path, report: Callable[[str], None]) -> None:
    """Make the recipe's tree in a folder that is not there yet (about half a minute)."""
    host.require({"mmdebstrap": "mmdebstrap"})
    _debootstrap(recipe, tree, log, report)
    finish(tree, recipe.files, recipe.removed)


def once(place: Path, make: Callable[[Path], None]) -> Path:
    """Give the folder `place`; where it is missing, `make` fills one beside it, which then takes its name."""
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.is_dir():
            growing = place.with_name(f"{place.name}.growing")
            shutil.rmtree(growing, ignore_errors=True)
            make(growing)
            growing.rename(place)
    return place


def ensure(cache: Path, report: Callable[[str], None], recipe: Recipe = MACHINE) -> Path:
    """Give the base tree's folder; build it first if this recipe has none yet."""
    tree = cache / "lab" / f"base-{recipe.digest}"

    def make(growing: Path) -> None:
        report(f"building the base tree, once, in {tree}")
        build(recipe, growing, tree.with_suffix(".log"), report)

    return once(tree, make)
