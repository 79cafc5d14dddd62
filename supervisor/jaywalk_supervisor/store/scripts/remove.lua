-- SPDX-License-Identifier: GPL-3.0-or-later
-- Removes a zone with all that is in it, unless it has peers and nobody insists.
--
-- KEYS  peers, then all other keys of the zone
-- ARGV  '1' to remove it in spite of its peers
-- Returns OK or PEERS.
if ARGV[1] ~= '1' and redis.call('HLEN', KEYS[1]) > 0 then return 'PEERS' end
redis.call('DEL', unpack(KEYS))
return 'OK'
