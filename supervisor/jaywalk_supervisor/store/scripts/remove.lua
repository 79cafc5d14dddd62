-- SPDX-License-Identifier: GPL-3.0-or-later
-- Removes a zone with all its keys, unless it has peers and the removal is not forced.
--
-- KEYS  peers, then all other keys of the zone
-- ARGV  '1' to remove it even if it has peers
-- Returns OK or PEERS.
if ARGV[1] ~= '1' and redis.call('HLEN', KEYS[1]) > 0 then return 'PEERS' end
redis.call('DEL', unpack(KEYS))
return 'OK'
