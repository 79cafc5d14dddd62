# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Prints the zone of the inventory and all zones of which this machine has files or units, one per line.
# The agent's user can write files of any name into /var/lib/jaywalk: only names that are DNS labels are zones.
# sh -c TEXT list_zones ZONE
{
    echo "$1"
    for file in /etc/jaywalk/*.env /etc/jaywalk/*.password /etc/jaywalk/*.key /var/lib/jaywalk/*.json; do
        [ -e "$file" ] && basename "${file%.*}"
    done
    systemctl list-units --all --plain --no-legend --type=service 'jaywalk-agent@*' |
        sed -n 's/^jaywalk-agent@\([^ ]*\)[.]service.*/\1/p'
    for link in /etc/systemd/system/*.wants/jaywalk-agent@*.service; do
        [ -L "$link" ] && basename "${link#*@}" .service
    done
} | grep -x '[a-z0-9]\([a-z0-9-]*[a-z0-9]\)\{0,1\}' | sort -u
