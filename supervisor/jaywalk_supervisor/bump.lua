-- SPDX-License-Identifier: GPL-3.0-or-later
-- Opens a new epoch in a zone whose Redis started anew or was put back to an older copy, so that no revision is
-- ever used again.  Revisions go on behind those of the peers' records: readers leave aside what is older.
--
-- KEYS  meta, events, peers
-- ARGV  the new mark; an epoch that is over, since its history is known to be lost ('0' for none)
-- Returns BUMPED, SAME (a later epoch of this server is open already), GONE (no such zone), UNREADABLE (its
-- position is none), or LOG (the log takes no entry of a later epoch).
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'rev', 'run_id', 'history', 'mark', 'marks')
if not meta[1] then return 'GONE' end
local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
-- As marks.py reads them; Lua's numbers are exact up to 2^53.
local function number(text)
  text = text or ''
  local good = text == '0' or (#text <= 15 and string.match(text, '^[1-9]%d*$'))
  return good and tonumber(text)
end
local epoch, rev, over = number(meta[1]), number(meta[2]), tonumber(ARGV[2])
if not epoch or not rev then return 'UNREADABLE' end
-- The log may be newer than the meta data where only some keys were put back, or somebody wrote into it.  It
-- takes nothing older than the newest entry that it ever had, though that be deleted again.
local last_id = '0-0'
local log = redis.pcall('XINFO', 'STREAM', KEYS[2]) -- an error where there is none
for at = 1, #log, 2 do
  if log[at] == 'last-generated-id' then last_id = log[at + 1] end
end
local last_epoch, last_rev = string.match(last_id, '(%d+)-(%d+)')
last_epoch, last_rev = number(last_epoch), tonumber(last_rev)
if not last_epoch then return 'LOG' end
local behind = last_epoch > epoch or (last_epoch == epoch and last_rev > rev)
if meta[3] == run_id and epoch > over and not behind then return 'SAME' end

for _, record in ipairs(redis.call('HVALS', KEYS[3])) do
  rev = math.max(rev, number(string.match(record, '"r":(%d+)')) or 0)
end
local now = redis.call('TIME')
local millis = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
local opened = string.format('%.0f', math.max(millis, epoch + 1, over + 1, last_epoch + 1))
rev = string.format('%d', rev + 1)
redis.call('XADD', KEYS[2], 'MAXLEN', '~', '20000', opened .. '-' .. rev, 'prev', meta[1],
  'm', (meta[5] or '') .. ' ' .. ARGV[1])
-- The last revision of each epoch before, and its mark, by which agents tell what was lost from what was removed.
local function appended(list, word)
  local words = {}
  for each in string.gmatch((list or '') .. ' ' .. word, '%S+') do words[#words + 1] = each end
  return table.concat(words, ' ', math.max(1, #words - 15))
end
redis.call('HSET', KEYS[1], 'epoch', opened, 'rev', rev, 'run_id', run_id, 'mark', ARGV[1],
  'history', appended(meta[4], meta[1] .. '-' .. meta[2]))
if meta[5] then redis.call('HSET', KEYS[1], 'marks', appended(meta[6], meta[1] .. '-' .. meta[5])) end
return 'BUMPED'
