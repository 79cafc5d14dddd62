-- SPDX-License-Identifier: GPL-3.0-or-later
-- Makes a zone unless there is one of that name.  The clock gives its epoch, so that readers of a zone
-- that was lost see that this is another one.
--
-- KEYS  meta
-- ARGV  schema, wait_ms, pools, description, policy
-- Returns CREATED or EXISTS.
if redis.call('EXISTS', KEYS[1]) == 1 then return 'EXISTS' end
local now = redis.call('TIME')
local epoch = string.format('%.0f', tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000))
redis.call('HSET', KEYS[1], 'schema', ARGV[1], 'epoch', epoch, 'rev', '0', 'wait_ms', ARGV[2],
  'run_id', string.match(redis.call('INFO', 'server'), 'run_id:(%w+)'),
  'pools', ARGV[3], 'description', ARGV[4], 'policy', ARGV[5])
return 'CREATED'
