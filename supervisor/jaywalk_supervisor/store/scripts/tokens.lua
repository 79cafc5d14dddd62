-- SPDX-License-Identifier: GPL-3.0-or-later
-- Changes the API's tokens and sets their generation to the time of the change: of two copies the one with the
-- later generation is newer.
--
-- KEYS  tokens, their audit
-- ARGV  'add', who adds it, a name and its record; or 'remove', who removes them, and names; or 'adopt' for tokens
--       without a generation; or 'restore', a generation, and names with their records, which are written if there
--       are no tokens, or only those of an older copy
-- Returns OK, EXISTS (nothing is added or restored) or NONE (there was nothing to remove).
local GENERATION, RESTORED = '#generation', '#restored'
local tokens = KEYS[1]

if ARGV[1] == 'restore' then
  local copied = redis.call('HGET', tokens, RESTORED)
  if redis.call('EXISTS', tokens) == 1 and not (copied and tonumber(copied) < tonumber(ARGV[2])) then
    return 'EXISTS'
  end
  redis.call('DEL', tokens)
  for at = 3, #ARGV, 2 do redis.call('HSET', tokens, ARGV[at], ARGV[at + 1]) end
  redis.call('HSET', tokens, GENERATION, ARGV[2], RESTORED, ARGV[2])
  audit_entry(KEYS[2], 'supervisor', 'tokens-restore', 'tokens', '', '')
  return 'OK'
end

if ARGV[1] == 'add' then
  if redis.call('HSETNX', tokens, ARGV[3], ARGV[4]) == 0 then return 'EXISTS' end
  audit_entry(KEYS[2], ARGV[2], 'token-add', 'token ' .. ARGV[3], '', ARGV[4])
elseif ARGV[1] == 'remove' then
  local removed = 0
  for at = 3, #ARGV do
    local record = redis.call('HGET', tokens, ARGV[at])
    if record then
      removed = removed + redis.call('HDEL', tokens, ARGV[at])
      audit_entry(KEYS[2], ARGV[2], 'token-remove', 'token ' .. ARGV[at], record, '')
    end
  end
  if removed == 0 then return 'NONE' end
end
local generation = math.max(now_ms(), (tonumber(redis.call('HGET', tokens, GENERATION)) or 0) + 1)
redis.call('HSET', tokens, GENERATION, string.format('%.0f', generation))
redis.call('HDEL', tokens, RESTORED)
return 'OK'
