-- SPDX-License-Identifier: GPL-3.0-or-later
-- Opens a new epoch in a zone whose Redis was restarted or put back to an older copy, so that no revision is
-- ever used twice.  Revisions continue after those of the peers' records, since readers ignore older ones.
--
-- KEYS  meta, events, peers
-- ARGV  the new mark; an epoch that must end, since its history is known to be lost ('0' for none)
-- Returns BUMPED, SAME (a later epoch of this server is already open), GONE (no such zone), UNREADABLE (its
-- position does not parse), or LOG (the log accepts no entry of a later epoch).
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'rev', 'run_id', 'history', 'mark', 'marks')
if not meta[1] then return 'GONE' end
local run_id = server_run_id()
local epoch, rev, over = natural(meta[1]), natural(meta[2]), tonumber(ARGV[2])
if not epoch or not rev then return 'UNREADABLE' end
-- The log may be newer than the meta data if only some keys were put back, or if it was written by hand.  A
-- stream accepts no id below that of the newest entry it ever had, even if that was deleted.
local last_id = '0-0'
local log = redis.pcall('XINFO', 'STREAM', KEYS[2]) -- an error if there is no log
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
