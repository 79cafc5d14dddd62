-- SPDX-License-Identifier: GPL-3.0-or-later
-- Writes records again that were deleted by hand, if the zone is still at the position where they were known.
--
-- KEYS  meta, a hash of records
-- ARGV  epoch, rev and mark; then the key and the record of each
-- Returns OK or CONFLICT.
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'rev', 'mark')
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then return 'CONFLICT' end
if differ(meta[3], ARGV[3]) then return 'CONFLICT' end
for at = 4, #ARGV, 2 do redis.call('HSETNX', KEYS[2], ARGV[at], ARGV[at + 1]) end
return 'OK'
