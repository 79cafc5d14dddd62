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
netns=$(told NETNS)
for other in /etc/jaywalk/*.env; do
    [ "$other" = "$settings" ] || ! grep -qsx "JAYWALK_NETNS=$netns" "$other" || netns=
done
printf '{"configured": %s, "known": %s, "failed": %s, "interface": "%s", "netns": "%s", "free_netns": "%s"}\n' \
    "$configured" "$known" "$failed" "$(told INTERFACE)" "$(told NETNS)" "$netns"
