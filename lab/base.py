# SPDX-License-Identifier: GPL-3.0-or-later
"""The base tree: one Debian that every machine's disk starts from, read-only, built once.

It lies in a folder named by a hash of the recipe, so another recipe builds another tree and no
running lab loses the ground under it.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from lab import host
from lab.errors import LabError
from lab.spec import write_atomically

SUITE = "bookworm"
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


def recipe_hash() -> str:
    """Names the tree: 12 hex digits over all that decides its content."""
    recipe = [SUITE, PACKAGES, PATHS_LEFT_OUT, FILES, REMOVED]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:12]


def source_lines(index_targets: str, keyring: Path = KEYRING) -> list[str]:
    """The lines of this host's own apt sources that lead to the suite, as sources.list(5) wants them.

    `index_targets` is what `apt-get indextargets` prints in the format URI|RELEASE|COMPONENT.
    """
    releases = {SUITE, f"{SUITE}-updates", f"{SUITE}-security"}
    lines = []
    for target in index_targets.splitlines():
        uri, release, component = target.split("|")
        if release in releases and component == "main":
            lines.append(f"deb [signed-by={keyring}] {uri} {release} {component}")
    return lines


def _sources() -> list[str]:
    """This host's sources for the suite; none where it runs another one (mmdebstrap then takes Debian's)."""
    fields = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
    listed = host.run(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"], check=False)
    return source_lines(listed)


def _debootstrap(tree: Path, log: Path, report: Callable[[str], None]) -> None:
    """Install the packages into `tree` with this host's ways to a mirror (proxy and the like)."""
    settings = tree.with_suffix(".apt.conf")
    acquire = host.run(["apt-config", "dump", "--format", '%f "%v";%n', "Acquire"])
    write_atomically(settings, acquire, 0o600)
    command = ["mmdebstrap", "--variant=minbase", f"--aptopt={settings}", f"--include={','.join(PACKAGES)}"]
    command += [f"--dpkgopt=path-exclude={path}" for path in PATHS_LEFT_OUT]
    command += [SUITE, str(tree), *_sources()]
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


def finish(tree: Path, files: dict[str, str], removed: Iterable[str]) -> None:
    """Turn a fresh installation into a base: remove what a machine must make itself, write our settings."""
    for pattern in removed:
        # Not Path.glob, which overlooks a link whose target only exists inside the tree.
        for name in glob.glob(pattern, root_dir=tree):  # noqa: PTH207
            (tree / name).unlink()
    for name, text in files.items():
        (tree / name).write_text(text, encoding="utf-8")


def ensure(cache: Path, report: Callable[[str], None]) -> Path:
    """Give the base tree's folder; build it first (about half a minute) if this recipe has none yet."""
    tree = cache / "lab" / f"base-{recipe_hash()}"
    if tree.is_dir():
        return tree
    tree.parent.mkdir(parents=True, exist_ok=True)
    with (tree.parent / "base.lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if tree.is_dir():
            return tree
        host.require({"mmdebstrap": "mmdebstrap"})
        report(f"building the base tree, once, in {tree}")
        growing = tree.with_name(f"{tree.name}.growing")
        shutil.rmtree(growing, ignore_errors=True)
        _debootstrap(growing, tree.with_suffix(".log"), report)
        finish(growing, FILES, REMOVED)
        growing.rename(tree)
    return tree
