# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Says in JSON whether the venv works and what the agent of a zone was told last; changes nothing.
# sh -c TEXT look VENV STAMP SHA1_OF_THE_STAMP SETTINGS INTERFACE NETNS COMMAND...
venv=$1 stamp=$2 wanted=$3 settings=$4 interface=$5 netns=$6
shift 6
told() { sed -n "s/^JAYWALK_$1=//p" "$settings" 2>/dev/null; }
runs=true others=true linked=true
for command; do
    # By the user nobody, since the supervisor's is no more than that.
    if ! setpriv --reuid=65534 --regid=65534 --clear-groups "$venv/bin/$command" --version >/dev/null 2>&1; then
        others=false
        "$venv/bin/$command" --version >/dev/null 2>&1 || runs=false
    fi
    [ "$(readlink "/usr/local/bin/$command")" = "$venv/bin/$command" ] || linked=false
done
ip ${netns:+-n "$netns"} link show dev "$interface" >/dev/null 2>&1 && taken=true || taken=false
# Namespaces that we made, and in which no zone is any more but perhaps this one.
free=$(systemctl list-units --all --plain --no-legend 'jaywalk-netns@*' |
    sed -n 's/^jaywalk-netns@\([^ ]*\)[.]service.*/\1/p' | while read -r each; do
    [ "$each" = "$netns" ] && continue
    for file in "${settings%/*}"/*.env; do
        [ "$file" != "$settings" ] && grep -qsx "JAYWALK_NETNS=$each" "$file" && continue 2
    done
    printf '%s ' "$each"
done)
# Who the machine is, in all its zones.
keys=$(for file in "${settings%/*}"/*.env; do
    [ -e "$file" ] && wg pubkey <"${file%.env}.key"
done 2>/dev/null | sed 's/.*/"&"/' | paste -sd ,)
complete=$runs
echo "$wanted  $stamp" | sha1sum --check --status 2>/dev/null || complete=false
printf '{"complete": %s, "runs": %s, "others": %s, "linked": %s, ' "$complete" "$runs" "$others" "$linked"
printf '"interface": "%s", "netns": "%s", "taken": %s, "free_netns": "%s", "keys": [%s]}\n' \
    "$(told INTERFACE)" "$(told NETNS)" "$taken" "${free% }" "$keys"
