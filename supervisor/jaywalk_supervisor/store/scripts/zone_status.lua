-- SPDX-License-Identifier: GPL-3.0-or-later
-- Reads the status of zones, for a supervisor that compares its copies with them.
--
-- KEYS  meta, peers, leases and creds of each zone
-- Returns a list for each zone: epoch, rev, history, restored, confirmed, readded, own_password, its numbers of
-- peers and leases, and the hash of its agents' own password; an empty list if there is no such zone.
local function ask(...)
  local answer = redis.pcall(...)
  if type(answer) == 'table' and answer.err then return false end
  return answer
end

local found = {}
for at = 1, #KEYS, 4 do
  local meta = ask('HMGET', KEYS[at], 'epoch', 'rev', 'history', 'restored', 'confirmed', 'readded',
    'own_password')
  local zone = {}
  if meta and meta[1] and meta[2] then
    local digest = ask('HGET', KEYS[at + 3], 'agent') or ''
    if digest ~= '' and not meta[7] then
      -- The zone is older than this mark; if Redis's memory is full, the mark is set later.
      redis.pcall('HSET', KEYS[at], 'own_password', '1')
      meta[7] = '1'
    end
    for field = 1, 7 do zone[field] = meta[field] or '' end
    zone[8] = ask('HLEN', KEYS[at + 1]) or 0
    zone[9] = ask('HLEN', KEYS[at + 2]) or 0
    zone[10] = digest
  end
  found[#found + 1] = zone
end
return found
