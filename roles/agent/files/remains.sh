# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Says in JSON what is left of the agent of a zone, whatever became of the run that installed it; changes nothing.
# sh -c TEXT remains UNIT SETTINGS
unit=$1 settings=$2
told() { sed -n "s/^JAYWALK_$1=//p" "$settings" 2>/dev/null; }
active=$(systemctl show -P ActiveState "$unit")
enabled=$(systemctl show -P UnitFileState "$unit")
[ -e "$settings" ] && configured=true || configured=false
[ "$active" = inactive ] && [ "$enabled" != enabled ] && known=false || known=true
[ "$active" = failed ] && failed=true || failed=false
# Those of earlier settings too.
free=$(systemctl list-units --all --plain --no-legend 'jaywalk-netns@*' |
    sed -n 's/^jaywalk-netns@\([^ ]*\)[.]service.*/\1/p' | while read -r each; do
    for other in "${settings%/*}"/*.env; do
        [ "$other" != "$settings" ] && grep -qsx "JAYWALK_NETNS=$each" "$other" && continue 2
    done
    printf '%s ' "$each"
done)
printf '{"configured": %s, "known": %s, "failed": %s, "interface": "%s", "netns": "%s", "free_netns": "%s"}\n' \
    "$configured" "$known" "$failed" "$(told INTERFACE)" "$(told NETNS)" "${free% }"
