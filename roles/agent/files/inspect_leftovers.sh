# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Prints, as JSON, what the machine has of the agent of a zone, even after an interrupted installation. Read-only.
# sh -c TEXT inspect_leftovers UNIT SETTINGS
unit=$1 settings=$2
setting() { sed -n "s/^JAYWALK_$1=//p" "$settings" 2>/dev/null; }
active=$(systemctl show -P ActiveState "$unit")
enabled=$(systemctl show -P UnitFileState "$unit")
[ -e "$settings" ] && configured=true || configured=false
[ "$active" = inactive ] && [ "$enabled" != enabled ] && known=false || known=true
[ "$(systemctl show -P ActiveState jaywalk-userspace.socket)" = active ] && serves=true || serves=false
[ "$active" = failed ] && failed=true || failed=false
# This includes the namespaces of earlier settings.
unused=$(systemctl list-units --all --plain --no-legend 'jaywalk-netns@*' |
    sed -n 's/^jaywalk-netns@\([^ ]*\)[.]service.*/\1/p' | while read -r namespace; do
    for other in "${settings%/*}"/*.env; do
        [ "$other" != "$settings" ] && grep -qsx "JAYWALK_NETNS=$namespace" "$other" && continue 2
    done
    printf '%s ' "$namespace"
done)
printf '{"configured": %s, "known": %s, "failed": %s, "interface": "%s", "netns": "%s", ' \
    "$configured" "$known" "$failed" "$(setting INTERFACE)" "$(setting NETNS)"
printf '"unused_netns": "%s", "serves_userspace": %s}\n' "${unused% }" "$serves"
