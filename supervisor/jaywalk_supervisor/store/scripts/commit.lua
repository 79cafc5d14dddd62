-- SPDX-License-Identifier: GPL-3.0-or-later
-- Commits a batch of decisions to one zone if there was no other commit since they were made, or writes nothing.
--
-- KEYS  meta, peers, leases, events, audit, audit of nodes, then further hashes, then the stream of each answer
-- ARGV  epoch, rev and mark of the decisions; the new mark; the changes as a JSON list ('' for none); the new
--       wait_ms ('' to keep it); the numbers of the following arguments that are peers to set, peers to delete,
--       leases to set, leases to delete (a record to set counts as two: key and value); the keys that are
--       blocked or allowed by these changes as JSON ('' for none); the number of further hashes, and of each the
--       numbers of arguments to set and to delete; these arguments; then for each answer its field, its text, the
--       limit of entries of its stream, and its lifetime in seconds; then the entries of the audit
-- Returns OK, CONFLICT (catch up and decide again), INCARNATION (bump first) or GONE (no such zone).
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'rev', 'run_id', 'mark')
if not meta[1] then return 'GONE' end
if meta[3] ~= server_run_id() then return 'INCARNATION' end
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then return 'CONFLICT' end
-- A running Redis may have been put back to an older copy from which another supervisor continued.  Commits of
-- an older version have no mark.
if differ(meta[4], ARGV[3]) then return 'CONFLICT' end

-- Fails before the first write if a key is not a hash: the writes of a script are not rolled back.
redis.call('HLEN', KEYS[2])
redis.call('HLEN', KEYS[3])

local SLICE = 1000 -- even; Lua's stack holds some thousand values
local hashes = tonumber(ARGV[12])
for i = 7, 6 + hashes do redis.call('HLEN', KEYS[i]) end
local at = 13 + 2 * hashes
local function write(command, hash, count)
  local ends = at + tonumber(count)
  while at < ends do
    local last = math.min(at + SLICE, ends) - 1
    redis.call(command, hash, unpack(ARGV, at, last))
    at = last + 1
  end
end

if ARGV[5] ~= '' then
  local rev = string.format('%d', tonumber(meta[2]) + 1)
  local entry = {'o', ARGV[5], 'm', (meta[4] or '') .. ' ' .. ARGV[4]}
  if ARGV[6] ~= '' then entry[5], entry[6] = 'w', ARGV[6] end
  if ARGV[11] ~= '' then
    entry[#entry + 1] = 'b'
    entry[#entry + 1] = ARGV[11]
  end
  -- This is the first write since it alone can fail, and the writes of a script are not rolled back.
  local answer = refused(KEYS[4], meta[1] .. '-' .. rev, entry)
  if answer then return answer end
  if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'wait_ms', ARGV[6]) end
  write('HSET', KEYS[2], ARGV[7])
  write('HDEL', KEYS[2], ARGV[8])
  write('HSET', KEYS[3], ARGV[9])
  write('HDEL', KEYS[3], ARGV[10])
  redis.call('HSET', KEYS[1], 'rev', rev, 'mark', ARGV[4])
end
for i = 1, hashes do
  write('HSET', KEYS[6 + i], ARGV[11 + 2 * i])
  write('HDEL', KEYS[6 + i], ARGV[12 + 2 * i])
end
for i = 7 + hashes, #KEYS do
  local answered = redis.pcall('XADD', KEYS[i], 'MAXLEN', ARGV[at + 2], '*', ARGV[at], ARGV[at + 1])
  if type(answered) == 'table' and answered.err then
    -- The key was given another type by hand; senders that wait for an older answer in it repeat their requests.
    redis.call('DEL', KEYS[i])
    redis.call('XADD', KEYS[i], 'MAXLEN', ARGV[at + 2], '*', ARGV[at], ARGV[at + 1])
  end
  redis.call('EXPIRE', KEYS[i], ARGV[at + 3])
  at = at + 4
end
audit(KEYS[5], at, KEYS[6])
return 'OK'
