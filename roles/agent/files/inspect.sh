# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Prints, as JSON, whether the venv works and the settings that the agent of a zone has on disk. Read-only.
# sh -c TEXT inspect VENV STAMP SHA1_OF_THE_STAMP SETTINGS INTERFACE NETNS COMMAND...
venv=$1 stamp=$2 stamp_sha1=$3 settings=$4 interface=$5 netns=$6
shift 6
setting() { sed -n "s/^JAYWALK_$1=//p" "$settings" 2>/dev/null; }
runs=true unprivileged=true linked=true
for command; do
    # As the user nobody: the supervisor's system user has no more rights than that.
    if ! setpriv --reuid=65534 --regid=65534 --clear-groups "$venv/bin/$command" --version >/dev/null 2>&1; then
        unprivileged=false
        "$venv/bin/$command" --version >/dev/null 2>&1 || runs=false
    fi
    [ "$(readlink "/usr/local/bin/$command")" = "$venv/bin/$command" ] || linked=false
done
ip ${netns:+-n "$netns"} link show dev "$interface" >/dev/null 2>&1 && exists=true || exists=false
# Namespaces that this role created and that no zone uses, except perhaps this zone by its old settings.
unused=$(systemctl list-units --all --plain --no-legend 'jaywalk-netns@*' |
    sed -n 's/^jaywalk-netns@\([^ ]*\)[.]service.*/\1/p' | while read -r namespace; do
    [ "$namespace" = "$netns" ] && continue
    for file in "${settings%/*}"/*.env; do
        [ "$file" != "$settings" ] && grep -qsx "JAYWALK_NETNS=$namespace" "$file" && continue 2
    done
    printf '%s ' "$namespace"
done)
# The machine's public keys in all its zones.
keys=$(for file in "${settings%/*}"/*.env; do
    [ -e "$file" ] && wg pubkey <"${file%.env}.key"
done 2>/dev/null | sed 's/.*/"&"/' | paste -sd ,)
complete=$runs
echo "$stamp_sha1  $stamp" | sha1sum --check --status 2>/dev/null || complete=false
printf '{"complete": %s, "runs": %s, "runs_unprivileged": %s, "linked": %s, ' \
    "$complete" "$runs" "$unprivileged" "$linked"
printf '"host_name": "%s", "public_key": "%s", ' "$(uname -n | tr -cd 'A-Za-z0-9_.-')" \
    "$(wg pubkey 2>/dev/null <"${settings%.env}.key")"
printf '"interface": "%s", "netns": "%s", "supervisor_keys": "%s", "lock_keys": "%s", ' \
    "$(setting INTERFACE)" "$(setting NETNS)" "$(setting SUPERVISOR_KEYS)" "$(setting LOCK_KEYS)"
printf '"interface_exists": %s, "unused_netns": "%s", "keys": [%s]}\n' "$exists" "${unused% }" "$keys"
