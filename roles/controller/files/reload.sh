#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes the controller read its certificate again; all connections stay.
set -e
value() { awk -v name="$1" '$1 == name { print $2 }' /etc/jaywalk-redis/redis.conf; }
REDISCLI_AUTH=$(cat /etc/jaywalk-redis/certificates.password)
export REDISCLI_AUTH
exec redis-cli -e -s "$(value unixsocket)" --user certificates \
    config set tls-cert-file "$(value tls-cert-file)" tls-key-file "$(value tls-key-file)"
