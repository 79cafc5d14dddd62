#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# inspect.sh PORT: prints facts about the machine before the role changes it, one per line:
#   memory KB                                the machine's memory
#   package                                  the distribution's Redis is installed
#   legacy                                   an older version of the role configured the distribution's Redis
#   plain                                    the role's Redis has a port in plain text
#   listener ADDRESS:PORT PID PROGRAM UNIT   a socket on the port; PID 0: it will exist after the next boot
port=$1
distribution_unit=redis-server.service

awk '$1 == "MemTotal:" { print "memory " $2 }' /proc/meminfo
test -e /usr/bin/redis-server && echo package
test -e /etc/redis/jaywalk.conf && echo legacy
grep -qs '^port [1-9]' /etc/jaywalk-redis/redis.conf && echo plain

ss -Hltnp "sport = :$port" | while read -r _ _ _ address _ users; do
    pid=$(expr "$users" : '.*pid=\([0-9]*\)')
    program=$(cat "/proc/$pid/comm" 2>/dev/null)
    unit=$(sed -n 's|.*/||p' "/proc/$pid/cgroup" 2>/dev/null | head -n 1)
    echo "listener $address ${pid:-0} ${program:-unknown} ${unit:-none}"
done

# An enabled unit that does not run will listen on its port after the next boot.
if systemctl is-enabled --quiet $distribution_unit 2>/dev/null && ! systemctl is-active --quiet $distribution_unit; then
    awk -v unit=$distribution_unit '
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
