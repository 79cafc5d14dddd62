# SPDX-License-Identifier: GPL-3.0-or-later
"""The hands of a plan: look at, make, change and delete a WireGuard interface with ``wg`` and ``ip``.

Kernel WireGuard where the kernel has it, else a userspace implementation, chosen here and nowhere else.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from ..core.errors import CommandFailed, JaywalkError, MissingTool
from ..core.runner import NamespaceRunner, Runner, checked
from .interface import Observed, ObservedPeer, is_relays, networks_of
from .mtu import PathMtu
from .sysctl import kept

BYTES_PER_CALL = 512 * 1024
"""Of words to one ``wg set``; Linux bounds a command line at 2 MiB, and a peer takes about 200 bytes."""
USERSPACE = ("wireguard-go", "boringtun-cli")
TUN = "/dev/net/tun"
NAMESPACE = "/proc/self/ns/net"
SYSTEMD_RUN = ("env", "--unset=NOTIFY_SOCKET", "systemd-run", "--quiet", "--collect")
"""With the agent's socket systemd-run would tell systemd of itself, which systemd refuses and logs."""
CONTROL_SOCKETS = "/var/run/wireguard"
END_SECONDS = 5.0
"""How long a userspace implementation may take to end; it took 1.5 s with 1,000 peers."""
_IPV6 = "net/ipv6/conf"
_FAILED_LINE = re.compile(r"^(?:RTNETLINK answers: |Error: )?(.*)\nCommand failed -:(\d+)", re.M)
_DONE_ALREADY = {
    ("route", "append"): ("file exists",),
    ("route", "del"): ("no such process",),
    ("addr", "del"): ("cannot assign requested address", "address not found"),
}
"""What the kernel says to a line of ``ip`` whose work is done, by itself or by an earlier line."""
_OF_ALL_PEERS = ("No such device", "Operation not permitted", "Protocol not supported")
"""What ``wg set`` says where it is not a peer that is wrong."""
LOCAL_ROUTE_SECONDS = 0.5
"""After this time a missing local IPv6 route was removed, and is not one that the kernel has yet to add."""
MOST_CALLS = 200
"""To find out which of many peers are refused; each of them takes twice the logarithm of their number."""


def observe(runner: Runner, name: str) -> Observed | None:
    """The interface as it is, or None; raises ``JaywalkError`` where ``name`` is something else."""
    found = runner.run(["ip", "-json", "-details", "addr", "show", "dev", name])
    if found.returncode != 0:
        if "does not exist" in found.stderr:
            return None
        raise CommandFailed(["ip", "addr", "show", "dev", name], found.returncode, found.stderr)
    link = next((each for each in json.loads(found.stdout) if each.get("ifname") == name), None)
    shown = runner.run(["wg", "show", name, "dump"])
    if "not permitted" in shown.stderr:
        raise CommandFailed(["wg", "show", name, "dump"], shown.returncode, shown.stderr)
    if link is None or shown.returncode != 0:
        raise JaywalkError(f"{name} exists and is not WireGuard", "choose another interface name")
    addresses, up = _addresses(link), "UP" in link.get("flags", [])
    return observed(
        name,
        shown.stdout,
        kind="kernel" if _kind(link) == "wireguard" else "userspace",
        addresses=addresses,
        mtu=int(link.get("mtu", 0)),
        up=up,
        **_settled_routes(runner, name, addresses if up else ()),
    )


def observed(name: str, dump: str, **link: Any) -> Observed:
    """The interface from what ``wg show dump`` says, and ``link``, what the platform says about it."""
    own, *peers = dump.splitlines()
    public, listen_port = own.split("\t")[1:3]
    return Observed(
        name=name,
        public_key="" if public == "(none)" else public,
        listen_port=int(listen_port),
        peers={peer.key: peer for peer in map(_peer, peers)},
        **link,
    )


def dump(runner: Runner, name: str) -> dict[str, ObservedPeer]:
    """The peers of an interface as they are at this moment; none where it is not there."""
    shown = runner.run(["wg", "show", name, "dump"])
    if shown.returncode != 0:
        return {}
    return {peer.key: peer for peer in map(_peer, shown.stdout.splitlines()[1:])}


def ports(runner: Runner) -> dict[str, int]:
    """The UDP port of each WireGuard interface in the runner's network namespace."""
    found = listed_ports(runner)
    # Userspace interfaces are listed whatever namespace they are in.
    here = {str(link.get("ifname")) for link in json.loads(checked(runner, ["ip", "-json", "link", "show"]))}
    return {name: port for name, port in found.items() if name in here}


def listed_ports(runner: Runner) -> dict[str, int]:
    """The UDP port of each WireGuard interface that ``wg`` lists, by the system's name.

    ``wg`` fails as a whole, and lists the others all the same, where one goes away meanwhile.
    """
    lines = (line.split() for line in runner.run(["wg", "show", "all", "listen-port"]).stdout.splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) == 2 and words[1].isdigit()}


def path_mtus(runner: Runner, hosts: Collection[str]) -> dict[str, PathMtu]:
    """How WireGuard's own packets go to ``hosts``; those that no route leads to are left out.

    From outside of the interface's network namespace, where it was made.
    """
    outside = runner.outside if isinstance(runner, NamespaceRunner) else runner
    asked = sorted(hosts)
    # One program for all: 1,000 lookups take 40 ms.
    shown = outside.run(
        ["ip", "-json", "-force", "-batch", "-"], "".join(f"route get {each}\n" for each in asked)
    )
    routes = [route for line in shown.stdout.splitlines() if line for route in json.loads(line)]
    links = {
        str(link.get("ifname")): int(link.get("mtu", 0))
        for link in (json.loads(checked(outside, ["ip", "-json", "link", "show"]) or "[]") if routes else [])
    }
    return {str(route["dst"]): _path_mtu(route, links) for route in routes if "dst" in route}


def _path_mtu(route: dict[str, Any], links: dict[str, int]) -> PathMtu:
    device = str(route.get("dev", ""))
    metrics = [each for each in route.get("metrics", []) if "mtu" in each]
    size = int(metrics[0]["mtu"]) if metrics else links.get(device, 0)
    return PathMtu(device, size, "gateway" in route or "via" in route, bool(metrics) and "expires" in route)


def _kind(link: dict[str, Any]) -> str:
    return str(link.get("linkinfo", {}).get("info_kind", ""))


def _addresses(link: dict[str, Any]) -> tuple[str, ...]:
    return tuple(
        f"{each['local']}/{each['prefixlen']}"
        for each in link.get("addr_info", [])
        if "local" in each and not _made_by_kernel(each)
    )


def _made_by_kernel(entry: dict[str, Any]) -> bool:
    """Whether this is the link-local address that the kernel gives to an interface by itself."""
    return bool(entry.get("stable-privacy")) or entry.get("protocol") == "kernel_ll"


def _peer(line: str) -> ObservedPeer:
    key, preshared, endpoint, allowed, handshake, received, sent, keepalive = line.split("\t")
    return ObservedPeer(
        key=key,
        allowed_ips=() if allowed == "(none)" else tuple(sorted(allowed.split(","))),
        endpoint="" if endpoint == "(none)" else endpoint,
        keepalive=0 if keepalive == "off" else int(keepalive),
        handshake=int(handshake),
        received=int(received),
        sent=int(sent),
        preshared=preshared != "(none)",
    )


def _settled_routes(runner: Runner, name: str, addresses: Sequence[str]) -> dict[str, frozenset[str]]:
    """What :func:`_routes` finds, once the kernel has added the local routes of new IPv6 addresses."""
    deadline = time.monotonic() + LOCAL_ROUTE_SECONDS
    found = _routes(runner, name, addresses)
    while any(":" in host for host in found["lost_hosts"]) and time.monotonic() < deadline:
        time.sleep(0.05)
        found = _routes(runner, name, addresses)
    return found


def _routes(runner: Runner, name: str, addresses: Sequence[str]) -> dict[str, frozenset[str]]:
    """The routes into an interface as :class:`Observed` has them; ``addresses`` should have brought some."""
    prefixes: set[str] = set()
    by_kernel: set[str] = set()
    local: set[str] = set()
    for family in ("-4", "-6"):
        for route in _shown_routes(runner, name, family):
            kind, of_kernel = route.get("type", "unicast"), route.get("protocol") == "kernel"
            # The kernel puts its own into the table of a VRF, if the interface is in one.
            if kind == "local":
                local.add(route["dst"])
            elif kind == "unicast" and of_kernel:
                by_kernel.add(_prefix(route["dst"], family))
            elif kind == "unicast" and route.get("table", "main") == "main":
                prefixes.add(_prefix(route["dst"], family))
    return {
        "routes": frozenset(prefixes),
        "lost_networks": frozenset(networks_of(addresses).keys() - by_kernel - prefixes),
        "lost_hosts": frozenset(_lost_hosts(addresses, local)),
    }


def _shown_routes(runner: Runner, name: str, family: str) -> list[dict[str, Any]]:
    argv = ["ip", "-json", family, "route", "show", "table", "all", "dev", name]
    shown = runner.run(argv)
    if shown.returncode == 0:
        return list(json.loads(shown.stdout or "[]"))
    if family == "-6" and "not supported" in shown.stderr:
        return []  # a kernel without IPv6
    raise CommandFailed(argv, shown.returncode, shown.stderr)


def why_no_ipv6(runner: Runner, name: str, exists: bool) -> str:
    """Why the kernel takes no IPv6 on the interface, and what to do; empty where it does.

    An interface that does not exist yet gets the setting of ``default``, which ``all`` sets too.
    """
    of_all = kept(runner, f"{_IPV6}/default/disable_ipv6")
    if not of_all:
        return "this kernel has no IPv6: boot it without 'ipv6.disable=1'"
    own = kept(runner, f"{_IPV6}/{name}/disable_ipv6") if exists else of_all
    if not own:
        return f"IPv6 needs an MTU of 1280 bytes: give {name} that much (--mtu, jaywalk_mtu)"
    if own == "0":
        return ""
    where, cure = (name, name) if exists else ("default", "all")
    return (
        f"net.ipv6.conf.{where}.disable_ipv6 is {own}: 'sysctl -w net.ipv6.conf.{cure}.disable_ipv6=0' "
        "allows it"
    )


def _lost_hosts(addresses: Sequence[str], local: set[str]) -> set[str]:
    hosts = {each.partition("/")[0] for each in addresses}
    # An old kernel lists its local IPv6 routes by the loopback device.
    told = {":" in each for each in local}
    return {each for each in hosts - local if ":" not in each or True in told}


def _prefix(destination: str, family: str) -> str:
    if destination == "default":
        return "0.0.0.0/0" if family == "-4" else "::/0"
    return destination if "/" in destination else destination + ("/32" if family == "-4" else "/128")


def create(runner: Runner, name: str) -> str:
    """Makes the interface and returns ``kernel`` or the userspace program's name.

    For a network namespace it is made outside and moved there, so that its own packets stay outside.
    Raises ``MissingTool`` or ``JaywalkError`` where neither can be had.
    """
    if isinstance(runner, NamespaceRunner):
        return _create_for(runner, name)
    return _create(runner, name, restarts=True)


def _create(runner: Runner, name: str, restarts: bool) -> str:
    made = runner.run(["ip", "link", "add", "dev", name, "type", "wireguard"])
    if made.returncode == 0:
        return "kernel"
    if not any(text in made.stderr for text in ("Unknown device type", "not supported")):
        raise CommandFailed(["ip", "link", "add", "dev", name], made.returncode, made.stderr)
    return _create_userspace(runner, name, restarts)


def _create_for(runner: NamespaceRunner, name: str) -> str:
    # Two userspace interfaces of one name would share a control socket, whatever their namespaces.
    if _exists(runner.outside, name):
        raise JaywalkError(
            f"the interface {name} exists outside of the network namespace {runner.netns}",
            "choose another --interface",
        )
    kind = _create(runner.outside, name, restarts=False)
    # A userspace program that has not answered yet still looks for its interface here, and ends without it.
    checked(runner.outside, ["wg", "show", name, "listen-port"])
    moved = ["ip", "link", "set", "dev", name, "netns", runner.netns]
    done = runner.outside.run(moved)
    if done.returncode != 0:
        delete(runner.outside, name)
        raise CommandFailed(moved, done.returncode, done.stderr)
    return kind


def _create_userspace(runner: Runner, name: str, restarts: bool) -> str:
    program = _userspace_program()
    _await_end(runner, name)
    argv = [*_own_unit(runner, name, restarts), program, name]
    started = runner.run(argv)
    if started.returncode != 0 and not _restarts_itself(runner, name, started.stderr):
        if "already loaded" in started.stderr:
            raise JaywalkError(
                f"{_unit(name)} runs, and {name} is not here: somebody moved it to another network namespace",
                f"move it back, or end it ('systemctl stop {_unit(name)}')",
            )
        # Around the error stands a box that advertises the kernel's WireGuard.
        said = [line for line in started.stderr.strip().splitlines() if line.isascii()]
        raise CommandFailed(argv, started.returncode, said[-1] if said else "")
    return program


def _restarts_itself(runner: Runner, name: str, said: str) -> bool:
    """Whether systemd starts a program that was killed again, and so kept us from it; waits for that."""
    deadline = time.monotonic() + END_SECONDS
    while "already loaded" in said and time.monotonic() < deadline:
        if _exists(runner, name) and runner.run(["wg", "show", name, "listen-port"]).returncode == 0:
            return True
        time.sleep(0.02)
    return False


def _exists(runner: Runner, name: str) -> bool:
    return runner.run(["ip", "link", "show", "dev", name]).returncode == 0


def _userspace_program() -> str:
    program = next((each for each in USERSPACE if shutil.which(each)), None)
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


def _own_unit(runner: Runner, name: str, restarts: bool) -> list[str]:
    """Words that start a program in a unit of its own, so that it outlives the service that starts it.

    The unit gets this process's network namespace, whichever that is. Empty without systemd.  With
    ``restarts`` systemd starts a program again that was killed: bare, so that whoever made the interface has
    to give it its settings once more.
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
    """Whether what systemd starts is in this process's network namespace anyway.

    systemd is asked, since only who may do more than the agent may look at process 1.
    """
    asked = runner.run([*SYSTEMD_RUN, "--pipe", "--wait", "readlink", NAMESPACE])
    return asked.returncode == 0 and asked.stdout.strip() == os.readlink(NAMESPACE)


def _has_systemd() -> bool:
    return os.path.isdir("/run/systemd/system") and shutil.which("systemd-run") is not None


def _unit(name: str) -> str:
    return f"jaywalk-wireguard-{name}.service"


def delete(runner: Runner, name: str) -> None:
    """Deletes the interface, and waits until a userspace implementation ended with it.

    Else the next one of that name would find the control socket, or the unit, still in use.
    """
    checked(runner, ["ip", "link", "delete", "dev", name])
    if _has_systemd():
        runner.run(["systemctl", "stop", _unit(name)])
    _await_end(runner, name)


def _await_end(runner: Runner, name: str) -> None:
    """Waits, not for ever, until no program listens on the control socket, say of one deleted by hand.

    One that has its interface is not about to end: systemd has just started it again.
    """
    deadline = time.monotonic() + END_SECONDS
    while _listens(f"{CONTROL_SOCKETS}/{name}.sock") and time.monotonic() < deadline:
        if _exists(runner, name):
            return
        time.sleep(0.02)


def _listens(path: str) -> bool:
    """Whether a program is at the other end of a socket; one that was killed leaves it behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True
    return True


def set_many(runner: Runner, name: str, parts: Sequence[Sequence[str]]) -> dict[int, CommandFailed]:
    """Carries out the parts of ``wg set`` in as few calls as a command line's length allows.

    ``wg`` ends at the first part that is refused, so the others are tried without it.  Returns the errors by
    the index of their part.
    """
    pending = list(_calls(parts))
    failed: dict[int, CommandFailed] = {}
    for calls in itertools.count(1):
        if not pending:
            break
        indices = pending.pop(0)
        error = _wg_set(runner, name, [word for index in indices for word in parts[index]])
        if error is None:
            continue
        if len(indices) == 1 or calls >= MOST_CALLS or any(each in error.stderr for each in _OF_ALL_PEERS):
            failed.update(dict.fromkeys(indices, error))
        else:
            middle = len(indices) // 2
            pending[:0] = [indices[:middle], indices[middle:]]
    return failed


def _calls(parts: Sequence[Sequence[str]]) -> Iterator[list[int]]:
    """The indices of the parts that fit into one call each."""
    indices: list[int] = []
    size = 0
    for index, part in enumerate(parts):
        length = sum(map(len, part)) + len(part)
        if indices and size + length > BYTES_PER_CALL:
            yield indices
            indices, size = [], 0
        indices.append(index)
        size += length
    if indices:
        yield indices


def _wg_set(runner: Runner, name: str, words: Sequence[str]) -> CommandFailed | None:
    argv = ["wg", "set", name, *words]
    done = runner.run(argv)
    if done.returncode == 0:
        return None
    # wg quotes a key that it cannot read, and that may be most of a private one.
    return CommandFailed(argv, done.returncode, re.sub(r"(length or format).*", r"\1", done.stderr))


def ip_batch(runner: Runner, lines: Sequence[str]) -> dict[int, CommandFailed]:
    """Carries out all lines in one ``ip``; one that fails does not keep the others back.

    Returns the errors by the index of their line.  A line whose work is done already is none of them.
    """
    if not lines:
        return {}
    done = runner.run(["ip", "-force", "-batch", "-"], "".join(f"{line}\n" for line in lines))
    if done.returncode == 0:
        return {}
    told = {int(number) - 1: message for message, number in _FAILED_LINE.findall(done.stderr)}
    if not told or max(told) >= len(lines):
        error = CommandFailed(["ip", "-batch", "-"], done.returncode, done.stderr)
        return dict.fromkeys(range(len(lines)), error)
    return {
        index: CommandFailed(["ip", *lines[index].split()], done.returncode, message)
        for index, message in told.items()
        if not _is_done_already(lines[index], message)
    }


def _is_done_already(line: str, message: str) -> bool:
    kind, verb = line.split()[:2]
    return any(text in message.lower() for text in _DONE_ALREADY.get((kind, verb), ()))


def require_tools(runner: Runner) -> None:
    """Raises ``MissingTool`` before anything is touched on a machine without ``wg`` or ``ip``."""
    for argv in (["wg", "--version"], ["ip", "-V"]):
        if runner.run(argv).returncode != 0:
            raise MissingTool(argv[0])


def require_wireguard(runner: Runner) -> None:
    """Raises ``JaywalkError`` before anything is touched on a machine where :func:`create` cannot succeed."""
    if os.path.isdir("/sys/module/wireguard"):
        return
    try:
        loadable = runner.run(["modprobe", "--dry-run", "--quiet", "wireguard"]).returncode == 0
    except MissingTool:
        loadable = False
    if not loadable:
        _userspace_program()


def local_networks(runner: Runner, without: str) -> list[str]:
    """The networks that this machine has by its other interfaces; loopback and link-local are left out.

    So are the interfaces to relays, which bear the addresses of ``without`` once more.
    """
    shown = json.loads(checked(runner, ["ip", "-json", "addr", "show"]) or "[]")
    return [
        f"{each['local']}/{each['prefixlen']}"
        for link in shown
        if link.get("ifname") != without and not is_relays(without, str(link.get("ifname")))
        for each in link.get("addr_info", [])
        if each.get("scope") == "global"
    ]
