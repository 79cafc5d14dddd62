#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# look.sh PORT: what the role has to know of a machine before it touches it, a fact a line:
#   memory KB                                the machine has so much
#   package                                  the distribution's Redis is installed
#   older                                    an older version of the role had configured that one
#   listener ADDRESS:PORT PID PROGRAM UNIT   a socket on the port; PID 0 where it will be there with the next boot
port=$1
distributions=redis-server.service

awk '$1 == "MemTotal:" { print "memory " $2 }' /proc/meminfo
test -e /usr/bin/redis-server && echo package
test -e /etc/redis/jaywalk.conf && echo older

ss -Hltnp "sport = :$port" | while read -r _ _ _ address _ users; do
    pid=$(expr "$users" : '.*pid=\([0-9]*\)')
    program=$(cat "/proc/$pid/comm" 2>/dev/null)
    unit=$(sed -n 's|.*/||p' "/proc/$pid/cgroup" 2>/dev/null | head -n 1)
    echo "listener $address ${pid:-0} ${program:-unknown} ${unit:-none}"
done

# Enabled and not running: it takes its port with the next boot.
if systemctl is-enabled --quiet $distributions 2>/dev/null && ! systemctl is-active --quiet $distributions; then
    awk -v unit=$distributions '
        $1 == "port" { port = $2 }
        $1 == "bind" { for (i = 2; i <= NF; i++) { sub(/^-/, "", $i); addresses[i] = $i } }
        END {
            for (i in addresses) {
                address = addresses[i] ~ /:/ ? "[" addresses[i] "]" : addresses[i]
                print "listener " address ":" (port ? port : 6379) " 0 redis-server " unit
            }
        }' /etc/redis/redis.conf
fi
exit 0
