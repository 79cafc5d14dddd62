-- SPDX-License-Identifier: GPL-3.0-or-later
-- Changes what a zone is, if nobody committed since that was decided, or writes nothing.
--
-- KEYS  meta, events
-- ARGV  epoch and rev that it was decided at; '1' for a new epoch, which has all agents read the zone anew;
--       then fields of meta and their values
-- Returns OK, CONFLICT (load and decide again), INCARNATION (bump first) or GONE (no such zone).
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'rev', 'run_id', 'history')
if not meta[1] then return 'GONE' end
if meta[3] ~= string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') then return 'INCARNATION' end
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then return 'CONFLICT' end
local epoch, rev = meta[1], string.format('%d', tonumber(meta[2]) + 1)
if ARGV[3] == '1' then
  local now = redis.call('TIME')
  local millis = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
  epoch = string.format('%.0f', math.max(millis, tonumber(meta[1]) + 1))
  -- As bump.lua keeps it.
  local ends = {}
  for word in string.gmatch((meta[4] or '') .. ' ' .. meta[1] .. '-' .. meta[2], '%S+') do ends[#ends + 1] = word end
  redis.call('HSET', KEYS[1], 'history', table.concat(ends, ' ', math.max(1, #ends - 15)))
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', '20000', epoch .. '-' .. rev, 'zone', 'changed')
-- What an operator says now stands before any copy of the zone.
redis.call('HSET', KEYS[1], 'confirmed', '1')
redis.call('HSET', KEYS[1], 'epoch', epoch, 'rev', rev, unpack(ARGV, 4))
return 'OK'
