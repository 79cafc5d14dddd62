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
local run_id = server_run_id()
local epoch, rev, over = natural(meta[1]), natural(meta[2]), tonumber(ARGV[2])
if not epoch or not rev then return 'UNREADABLE' end
-- The log may be newer than the meta data where only some keys were put back, or somebody wrote into it.  It
-- takes nothing older than the newest entry that it ever had, though that be deleted again.
local last_id = '0-0'
local log = redis.pcall('XINFO', 'STREAM', KEYS[2]) -- an error where there is none
for at = 1, #log, 2 do
  if log[at] == 'last-generated-id' then last_id = log[at + 1] end
end
local last_epoch, last_rev = string.match(last_id, '(%d+)-(%d+)')
last_epoch, last_rev = natural(last_epoch), tonumber(last_rev)
if not last_epoch then return 'LOG' end
local behind = last_epoch > epoch or (last_epoch == epoch and last_rev > rev)
if meta[3] == run_id and epoch > over and not behind then return 'SAME' end

for _, record in ipairs(redis.call('HVALS', KEYS[3])) do
  rev = math.max(rev, natural(string.match(record, '"r":(%d+)')) or 0)
end
local opened = string.format('%.0f', math.max(now_ms(), epoch + 1, over + 1, last_epoch + 1))
rev = string.format('%d', rev + 1)
redis.call('XADD', KEYS[2], 'MAXLEN', '~', LOG_ENTRIES, opened .. '-' .. rev, 'prev', meta[1],
  'm', (meta[5] or '') .. ' ' .. ARGV[1])
redis.call('HSET', KEYS[1], 'epoch', opened, 'rev', rev, 'run_id', run_id, 'mark', ARGV[1])
keep_end(KEYS[1], meta[1], meta[2], meta[5], meta[4], meta[6])
return 'BUMPED'
