-- SPDX-License-Identifier: GPL-3.0-or-later
-- Changes a zone's settings if there was no commit since the decision, or writes nothing.
--
-- KEYS  meta, events, audit
-- ARGV  epoch, rev and mark of the decision; the new mark; '1' for a new epoch, which makes all agents reload the
--       zone; then fields of meta and their values; then an entry of the audit
-- Returns OK, CONFLICT (load and decide again), INCARNATION (bump first) or GONE (no such zone).
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'rev', 'run_id', 'history', 'mark', 'marks')
if not meta[1] then return 'GONE' end
if meta[3] ~= server_run_id() then return 'INCARNATION' end
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then return 'CONFLICT' end
if differ(meta[5], ARGV[3]) then return 'CONFLICT' end
local epoch, rev = meta[1], string.format('%d', tonumber(meta[2]) + 1)
if ARGV[5] == '1' then epoch = string.format('%.0f', math.max(now_ms(), tonumber(meta[1]) + 1)) end
-- This is the first write for the reason given in commit.lua.
local entry = {'zone', 'changed', 'm', (meta[5] or '') .. ' ' .. ARGV[4]}
local answer = refused(KEYS[2], epoch .. '-' .. rev, entry)
if answer then return answer end
if ARGV[5] == '1' then keep_end(KEYS[1], meta[1], meta[2], meta[5], meta[4], meta[6]) end
-- An operator's change takes precedence over any copy of the zone.
redis.call('HSET', KEYS[1], 'confirmed', '1')
redis.call('HSET', KEYS[1], 'epoch', epoch, 'rev', rev, 'mark', ARGV[4], unpack(ARGV, 6, #ARGV - 5))
audit(KEYS[3], #ARGV - 4)
return 'OK'
