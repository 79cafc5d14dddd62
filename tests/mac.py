# SPDX-License-Identifier: GPL-3.0-or-later
"""A Mac of recorded programs: no real one was at hand.

What ``ifconfig``, ``netstat`` and ``route`` answer is put together from their manual pages and from listings
that people published of macOS 10.13 to 14; what is called, and how, follows wg-quick(8) for darwin.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from jaywalk.core.runner import Finished, SubprocessRunner
from jaywalk.wireguard.darwin import Darwin
from tests.strategies import key

IFCONFIG = """\
lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> mtu 16384
\toptions=1203<RXCSUM,TXCSUM,TXSTATUS,SW_TIMESTAMP>
\tinet 127.0.0.1 netmask 0xff000000
\tinet6 ::1 prefixlen 128
\tinet6 fe80::1%lo0 prefixlen 64 scopeid 0x1
\tnd6 options=201<PERFORMNUD,DAD>
en0: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
\toptions=6463<RXCSUM,TXCSUM,TSO4,TSO6,CHANNEL_IO,PARTIAL_CSUM,ZEROINVERT_CSUM>
\tether a0:78:17:00:00:01
\tinet6 fe80::10d2:8a5c:11c0:22e1%en0 prefixlen 64 secured scopeid 0xb
\tinet 192.168.7.20 netmask 0xffffff00 broadcast 192.168.7.255
\tinet6 2001:db8:7::20 prefixlen 64 autoconf secured
\tmedia: autoselect
\tstatus: active
"""
UTUN = """\
utun3: flags=8051<UP,POINTOPOINT,RUNNING,MULTICAST> mtu 1420
\tinet 10.20.0.5 --> 10.20.0.5 netmask 0xfffff000
\tinet6 fe80::a278:17ff:fe00:1%utun3 prefixlen 64 scopeid 0x15
\tinet6 fd20::5 prefixlen 64
\tnd6 options=201<PERFORMNUD,DAD>
"""
INET = """\
Routing tables

Internet:
Destination        Gateway            Flags               Netif Expire
default            192.168.7.1        UGScg                 en0
10.20/20           utun3              USc                 utun3
10.20.0.5          10.20.0.5          UH                  utun3
127                127.0.0.1          UCS                   lo0
169.254            link#11            UCS                   en0      !
172.20.1/24        utun3              USc                 utun3
192.168.7          link#11            UCS                   en0      !
192.168.7.1        3c:a6:2f:0:0:1     UHLWIir               en0   1193
224.0.0/4          link#21            UmCS                utun3
255.255.255.255/32 link#21            UCS                 utun3
"""
INET_OF_OLD = """\
Destination        Gateway            Flags        Refs      Use   Netif Expire
default            192.168.7.1        UGSc           20       16     en0
172.20.1/24        utun3              USc             1        0   utun3
172.20.2.9         utun3              UH              1        0   utun3
"""
INET6 = """\
Routing tables

Internet6:
Destination              Gateway                         Flags               Netif Expire
default                  fe80::1%en0                     UGcg                  en0
fd20::/64                utun3                           USc                 utun3
fd20::5                  link#21                         UHL                   lo0
fd21:1::/64              utun3                           USc                 utun3
fe80::%utun3/64          fe80::a278:17ff:fe00:1%utun3    UcI                 utun3
ff00::/8                 fe80::a278:17ff:fe00:1%utun3    UmCI                utun3
"""
WAY = """\
   route to: 192.0.2.1
destination: default
       mask: default
    gateway: 192.168.7.1
  interface: en0
      flags: <UP,GATEWAY,DONE,STATIC,PRCLONING,GLOBAL>
 recvpipe  sendpipe  ssthresh  rtt,msec    rttvar  hopcount      mtu     expire
       0         0         0         0         0         0      1500         0
"""
DUMP = (
    f"private\t{key(0)}\t51820\toff\n"
    f"{key(1)}\t(none)\t192.0.2.1:51820\t10.20.0.1/32,172.20.1.0/24\t0\t0\t0\t25\n"
)
ANSWERS = {
    ("ifconfig", "utun3"): UTUN,
    ("netstat", "-nr", "-f", "inet"): INET,
    ("netstat", "-nr", "-f", "inet6"): INET6,
    ("wg", "show", "utun3", "dump"): DUMP,
    ("wg", "show", "all", "listen-port"): "utun9\t41414\n",
    ("ifconfig", "-a"): IFCONFIG,
    ("route", "-n", "get", "-inet", "192.0.2.1"): WAY,
    ("ifconfig", "en0"): IFCONFIG[IFCONFIG.index("en0:") :],
}
OF_THE_TUNNEL = {
    ("ifconfig", "-a"): UTUN,
    ("wg", "show", "all", "listen-port"): "utun3\t51820\n",
}
"""What comes behind these answers while the tunnel is there."""
REFUSED = "Unable to access interface: Connection refused"
"""Of ``wg`` where the program behind a socket died; it removes the socket."""


class Recorded:
    """Answers as a Mac's programs did; ``wireguard-go`` leaves the two files behind that it leaves there."""

    def __init__(self, folder: Path) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.refused: dict[tuple[str, ...], str] = {}
        self.folder = folder

    def run(self, argv: Sequence[str], stdin: str | None = None) -> Finished:
        words = tuple(argv)
        self.calls.append(words)
        if words[-2:] == ("wireguard-go", "utun"):
            Path(words[1].partition("=")[2]).write_text("utun3\n")
            (self.folder / "utun3.sock").touch()
        if words[0] == "rm":
            return SubprocessRunner().run(words)
        stderr = self.refused.get(words, "")
        if stderr == REFUSED:
            (self.folder / "utun3.sock").unlink()
        answer = ANSWERS.get(words, "")
        if words in OF_THE_TUNNEL and (self.folder / "utun3.sock").exists():
            answer += OF_THE_TUNNEL[words]
        return Finished(1 if stderr else 0, answer, stderr)


def a_mac(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """A Mac, also for a caller that asks which platform this is; ``folder`` holds the control sockets."""
    recorded = Recorded(folder)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(shutil, "which", lambda program: f"/opt/homebrew/bin/{program}")
    return recorded


def backend(recorded: Recorded) -> Darwin:
    """The backend that calls the programs of this Mac."""
    return Darwin(recorded, str(recorded.folder))
