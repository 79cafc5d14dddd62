# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of a lab's machines, namespaces and interfaces. Pure: nothing here reads the state of this host."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from lab.errors import LabError

# The controller's machine. Its name differs from its group's: Ansible warns where both are the same.
CONTROL = "control"

# The interface of the internet's gateway in the internet's namespace; not a port of the switch.
UPLINK = "uplink"

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,11}[a-z0-9])?")
_PREFIX = re.compile(r"[a-z][a-z0-9]{0,7}")


def check_name(name: str) -> str:
    """Check a machine's name: a DNS label of at most 13 characters, so that `m-NAME` fits IFNAMSIZ (15)."""
    if not _NAME.fullmatch(name):
        raise LabError(
            f"machine name {name!r}: use 1 to 13 lower-case letters, digits and inner hyphens, such as node1"
        )
    return name


def check_prefix(prefix: str) -> str:
    """Check a lab's prefix: at most 8 characters, so that `PREFIX_host` fits IFNAMSIZ (15)."""
    if not _PREFIX.fullmatch(prefix):
        raise LabError(f"lab prefix {prefix!r}: use 1 to 8 lower-case letters and digits, a letter first")
    return prefix


def default_prefixes() -> Iterator[str]:
    """Yield the prefixes for labs without a given one."""
    yield "jw"
    yield from (f"jw{number}" for number in range(2, 100))


def default_names(count: int, *, plain: bool = False) -> Iterator[str]:
    """Yield the machines of `up N`: one for the controller and N-1 nodes, or N nodes if plain."""
    if count < 1:
        raise LabError(f"a lab of {count} machines: ask for at least 1")
    if not plain:
        yield CONTROL
    yield from (f"node{number}" for number in range(1, count + int(plain)))


def lab_netns(prefix: str) -> str:
    """Name the namespace of the lab's bridges; the underscore keeps it distinct from every machine's."""
    return f"{prefix}_lab"


def host_interface(prefix: str) -> str:
    """Name the interface by which this host reaches the lab."""
    return f"{prefix}_host"


def machine_netns(prefix: str, name: str) -> str:
    """Name the namespace that a machine boots in; systemd-nspawn uses the same name for the machine."""
    return f"{prefix}-{name}"


def internet_netns(prefix: str) -> str:
    """Name the namespace of the emulated internet of a lab with NAT sites."""
    return f"{prefix}_net"


def router_netns(prefix: str, site: str) -> str:
    """Name the namespace of a site's router; the underscore keeps it distinct from every machine's."""
    return f"{prefix}_r-{site}"


def router_port(site: str) -> str:
    """Name the internet's end of a router's veth pair."""
    return f"w-{site}"


def bridge_port(name: str, number: int) -> str:
    """Name the lab's end of a machine's veth pair; number 0 is the machine's eth0."""
    return f"{'mn'[number]}-{name}"


def mac(prefix: str, name: str, number: int) -> str:
    """Derive a locally administered address that a machine's interface keeps over reboots."""
    digest = hashlib.sha256(f"{prefix} {name} {number}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def machine_id(prefix: str, name: str) -> str:
    """Derive an id in the format of machine-id(5): 32 hex digits, the same at every boot."""
    return hashlib.sha256(f"{prefix} {name} machine-id".encode()).hexdigest()[:32]
