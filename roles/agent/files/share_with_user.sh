# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Lets the agent's user read its private key, and use the programs of userspace WireGuard that an agent of an earlier
# version started as root, so that their tunnels stay up. Prints what it changes.
# sh -c TEXT share_with_user USER KEY_FILE
user=$1 key=$2 originals=/run/jaywalk-adopted
# The agent of the version before is root without CAP_DAC_OVERRIDE: root stays the owner for it.
if [ "$(stat -c '%G %a' "$key")" != "$user 640" ]; then
    chgrp "$user" "$key" && chmod 640 "$key" && echo "$key"
fi
for socket in /run/wireguard/*.sock; do
    name=${socket##*/}
    interface=${name%.sock}
    [ "$(stat -c '%u %g' "$socket" 2>/dev/null)" = "0 0" ] || continue
    systemctl --quiet is-active "jaywalk-wireguard-$interface.service" || continue
    # wireguard-go ends as soon as owner or mode of its control socket change, but not when the socket moves. Another
    # one in its place passes everything on, until the program ends.
    (umask 077 && mkdir -p "$originals")
    systemctl --quiet stop "jaywalk-adopted-$interface.socket" "jaywalk-adopted-$interface.service" 2>/dev/null
    mv "$socket" "$originals/$name"
    systemd-run --quiet --collect --unit="jaywalk-adopted-$interface" \
        --description="Control socket of $interface for the Jaywalking agent" \
        --socket-property="ListenStream=$socket" --socket-property="SocketGroup=$user" \
        --socket-property=SocketMode=0660 --property=CapabilityBoundingSet= --property=NoNewPrivileges=yes \
        /lib/systemd/systemd-socket-proxyd --exit-idle-time=60 "$originals/$name" ||
        { mv "$originals/$name" "$socket" && exit 1; }
    chgrp "$user" /run/wireguard && chmod 1775 /run/wireguard
    echo "$socket"
done
exit 0
