-- SPDX-License-Identifier: GPL-3.0-or-later
-- Restores the hash of a zone's own password if it is missing, and marks the copy that the zone was restored
-- from, or that an operator confirmed the zone.
--
-- KEYS  meta, creds
-- ARGV  the hash ('' for none), the mark 'restored' ('' for none), '1' if an operator confirmed the zone
-- Returns OK or GONE (no such zone).
if redis.call('EXISTS', KEYS[1]) == 0 then return 'GONE' end
if ARGV[1] ~= '' then
  redis.call('HSETNX', KEYS[2], 'agent', ARGV[1])
  redis.call('HSET', KEYS[1], 'own_password', '1')
end
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], 'restored', ARGV[2])
  redis.call('HDEL', KEYS[1], 'confirmed')
end
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 'confirmed', '1') end
return 'OK'
