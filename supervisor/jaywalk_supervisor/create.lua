-- SPDX-License-Identifier: GPL-3.0-or-later
-- Makes a zone unless there is one of that name.  The clock gives its epoch, so that readers of a zone
-- that was lost see that this is another one.  Where that zone's log or peers are still there, revisions go on
-- behind theirs: readers leave aside what is older than the record that they have.
--
-- KEYS  meta, peers, events
-- ARGV  schema, wait_ms, pools, description, policy
-- Returns CREATED or EXISTS.
if redis.call('EXISTS', KEYS[1]) == 1 then return 'EXISTS' end
local now = redis.call('TIME')
local epoch = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
local rev = 0
for _, record in ipairs(redis.call('HVALS', KEYS[2])) do
  rev = math.max(rev, tonumber(string.match(record, '"r":(%d+)') or 0))
end
local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
if last then
  local ends, number = string.match(last[1], '(%d+)-(%d+)')
  epoch, rev = math.max(epoch, tonumber(ends) + 1), math.max(rev, tonumber(number))
end
redis.call('HSET', KEYS[1], 'schema', ARGV[1], 'epoch', string.format('%.0f', epoch),
  'rev', string.format('%d', rev), 'wait_ms', ARGV[2],
  'run_id', string.match(redis.call('INFO', 'server'), 'run_id:(%w+)'),
  'pools', ARGV[3], 'description', ARGV[4], 'policy', ARGV[5])
return 'CREATED'
