-- SPDX-License-Identifier: GPL-3.0-or-later
-- Creates a zone unless one of that name exists.  Its epoch is the current time, so that readers of a lost zone
-- notice that this is another one.  If the lost zone's log or peers still exist, revisions continue after theirs,
-- since readers ignore records older than the ones they have.
--
-- KEYS  meta, peers, events, leases, creds, audit
-- ARGV  schema, wait_ms, pools, description, policy, the signed statement of the mesh lock ('' for none), mark;
--       the epoch and the rev after which it begins (0 for any); the hash of its agents' own password ('' for
--       none); the mark 'restored' and the mark 'readded' ('' for none); then the key and the record of each
--       lease, which are written if the zone has neither leases nor peers; then an entry of the audit
-- Returns CREATED or EXISTS.
if redis.call('EXISTS', KEYS[1]) == 1 then return 'EXISTS' end
local epoch = math.max(now_ms(), tonumber(ARGV[8]) + 1)
local rev = tonumber(ARGV[9])
for _, record in ipairs(redis.call('HVALS', KEYS[2])) do
  rev = math.max(rev, natural(string.match(record, '"r":(%d+)')) or 0)
end
local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
if last then
  local ends, number = string.match(last[1], '(%d+)-(%d+)')
  epoch, rev = math.max(epoch, natural(ends) or 0) + 1, math.max(rev, natural(number) or 0)
end
if redis.call('EXISTS', KEYS[2], KEYS[4]) == 0 then
  for at = 13, #ARGV - 5, 2 do redis.call('HSET', KEYS[4], ARGV[at], ARGV[at + 1]) end
end
if ARGV[10] ~= '' then redis.call('HSETNX', KEYS[5], 'agent', ARGV[10]) end
redis.call('HSET', KEYS[1], 'schema', ARGV[1], 'epoch', string.format('%.0f', epoch),
  'rev', string.format('%d', rev), 'wait_ms', ARGV[2],
  'run_id', server_run_id(),
  'pools', ARGV[3], 'description', ARGV[4], 'policy', ARGV[5], 'mark', ARGV[7])
if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'lock', ARGV[6]) end
if ARGV[11] ~= '' then redis.call('HSET', KEYS[1], 'restored', ARGV[11]) end
if ARGV[12] ~= '' then redis.call('HSET', KEYS[1], 'readded', ARGV[12]) end
if redis.call('HEXISTS', KEYS[5], 'agent') == 1 then redis.call('HSET', KEYS[1], 'own_password', '1') end
audit(KEYS[6], #ARGV - 4)
return 'CREATED'
