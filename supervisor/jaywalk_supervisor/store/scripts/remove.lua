-- SPDX-License-Identifier: GPL-3.0-or-later
-- Removes a zone with all its keys but the audit, unless it has peers and the removal is not forced.
--
-- KEYS  audit, peers, then all other keys of the zone
-- ARGV  '1' to remove it even if it has peers; an entry of the audit
-- Returns OK or PEERS.
if ARGV[1] ~= '1' and redis.call('HLEN', KEYS[2]) > 0 then return 'PEERS' end
redis.call('DEL', unpack(KEYS, 2))
audit(KEYS[1], 2)
return 'OK'
