# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Removes an interface that has the zone's private key, for use when the agent's program does not run.
# sh -c TEXT remove_interface INTERFACE KEY_FILE NETNS
interface=$1 key=$2 netns=$3
inside() { ${netns:+ip netns exec "$netns"} "$@" 2>/dev/null; }
[ "$(inside wg show "$interface" private-key)" = "$(cat "$key")" ] || exit 1
# Stop userspace WireGuard first: its unit would create the interface again.
systemctl --quiet stop "jaywalk-wireguard-$interface.service" 2>/dev/null
inside ip link delete dev "$interface" || ! inside ip link show dev "$interface" >/dev/null
