-- SPDX-License-Identifier: GPL-3.0-or-later
-- Changes what a zone is, if nobody committed since that was decided, or writes nothing.
--
-- KEYS  meta, events
-- ARGV  epoch, rev and mark that it was decided at; the new mark; '1' for a new epoch, which has all agents read
--       the zone anew; then fields of meta and their values
-- Returns OK, CONFLICT (load and decide again), INCARNATION (bump first) or GONE (no such zone).
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'rev', 'run_id', 'history', 'mark', 'marks')
if not meta[1] then return 'GONE' end
if meta[3] ~= string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') then return 'INCARNATION' end
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then return 'CONFLICT' end
-- As commit.lua compares it.
local is_mark = #(meta[5] or '') >= 8 and #meta[5] <= 32 and string.match(meta[5], '^[0-9a-f]+$') -- as marks.py
if is_mark and ARGV[3] ~= '' and meta[5] ~= ARGV[3] then return 'CONFLICT' end
local epoch, rev = meta[1], string.format('%d', tonumber(meta[2]) + 1)
if ARGV[5] == '1' then
  local now = redis.call('TIME')
  local millis = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
  epoch = string.format('%.0f', math.max(millis, tonumber(meta[1]) + 1))
end
-- First, as in commit.lua, and with the same answer where it fails.
local added = redis.pcall('XADD', KEYS[2], 'MAXLEN', '~', '20000', epoch .. '-' .. rev, 'zone', 'changed',
  'm', (meta[5] or '') .. ' ' .. ARGV[4])
if type(added) == 'table' and added.err then
  local late = string.find(added.err, 'equal or smaller') or string.find(added.err, 'last possible ID')
  return late and 'INCARNATION' or added
end
if ARGV[5] == '1' then
  -- As bump.lua keeps it.
  local function appended(list, word)
    local words = {}
    for each in string.gmatch((list or '') .. ' ' .. word, '%S+') do words[#words + 1] = each end
    return table.concat(words, ' ', math.max(1, #words - 15))
  end
  redis.call('HSET', KEYS[1], 'history', appended(meta[4], meta[1] .. '-' .. meta[2]))
  if meta[5] then redis.call('HSET', KEYS[1], 'marks', appended(meta[6], meta[1] .. '-' .. meta[5])) end
end
-- What an operator says now stands before any copy of the zone.
redis.call('HSET', KEYS[1], 'confirmed', '1')
redis.call('HSET', KEYS[1], 'epoch', epoch, 'rev', rev, 'mark', ARGV[4], unpack(ARGV, 6))
return 'OK'
