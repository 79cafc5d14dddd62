-- SPDX-License-Identifier: GPL-3.0-or-later
-- Opens a new epoch in a zone whose Redis started anew, so that no lost revision is ever used again.
--
-- KEYS  meta, events
-- Returns BUMPED, SAME (this server's epoch is open already) or GONE (no such zone).
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'rev', 'run_id', 'history')
if not meta[1] then return 'GONE' end
local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
if meta[3] == run_id then return 'SAME' end
local now = redis.call('TIME')
local millis = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
local epoch = string.format('%.0f', math.max(millis, tonumber(meta[1]) + 1))
local rev = string.format('%d', tonumber(meta[2]) + 1)
redis.call('XADD', KEYS[2], 'MAXLEN', '~', '20000', epoch .. '-' .. rev, 'prev', meta[1])
-- The last revision of each epoch before, by which agents tell what was lost from what was removed.
local ends = {}
for word in string.gmatch((meta[4] or '') .. ' ' .. meta[1] .. '-' .. meta[2], '%S+') do ends[#ends + 1] = word end
local history = table.concat(ends, ' ', math.max(1, #ends - 15))
redis.call('HSET', KEYS[1], 'epoch', epoch, 'rev', rev, 'run_id', run_id, 'history', history)
return 'BUMPED'
