-- SPDX-License-Identifier: GPL-3.0-or-later
-- Functions that the scripts of this folder share; the text is prepended to each.

local LOG_ENTRIES = '20000'

-- The run id of this very server: a restarted Redis may have lost revisions that readers have seen.
local function server_run_id()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
end

local function now_ms()
  local now = redis.call('TIME')
  return tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
end

-- Whether two marks belong to different histories; a text that is no mark (see marks.py) matches any.
local function differ(mark, expected)
  mark = mark or ''
  local known = #mark >= 8 and #mark <= 32 and string.match(mark, '^[0-9a-f]+$')
  return known and expected ~= '' and mark ~= expected
end

-- Parses a natural number as marks.py does, or returns nil; Lua's numbers are exact up to 2^53.
local function natural(text)
  text = text or ''
  local good = text == '0' or (#text <= 15 and string.match(text, '^[1-9]%d*$'))
  return good and tonumber(text) or nil
end

-- Appends a word to a list and keeps the last 16.
local function appended(list, word)
  local words = {}
  for part in string.gmatch((list or '') .. ' ' .. word, '%S+') do words[#words + 1] = part end
  return table.concat(words, ' ', math.max(1, #words - 15))
end

-- Records the last revision and mark of an epoch, by which agents distinguish lost from removed peers.
local function keep_end(key, epoch, rev, mark, history, marks)
  redis.call('HSET', key, 'history', appended(history, epoch .. '-' .. rev))
  if mark then redis.call('HSET', key, 'marks', appended(marks, epoch .. '-' .. mark)) end
end

local AUDIT_ENTRIES = '10000'

-- Appends an entry to an audit, unless nobody is its author.  A key that was given another type by hand is kept
-- under another name: nothing of an audit is ever deleted but its oldest entries.
local function audit_entry(key, who, action, record, before, after)
  if who == '' then return end
  local words = {'XADD', key, 'MAXLEN', '~', AUDIT_ENTRIES, '*',
    'who', who, 'action', action, 'record', record, 'before', before, 'after', after}
  local added = redis.pcall(unpack(words))
  if type(added) == 'table' and added.err then
    redis.call('RENAME', key, key .. ':' .. string.format('%.0f', now_ms()))
    redis.call(unpack(words))
  end
end

-- Appends the entries in ARGV from `at` on, of five texts each, to an audit.  Those of nodes have a stream of
-- their own, so that no node can push out what operators did.
local function audit(key, at, key_of_nodes)
  for first = at, #ARGV, 5 do
    local of_node = string.sub(ARGV[first], 1, 5) == 'node '
    audit_entry(of_node and key_of_nodes or key, unpack(ARGV, first, first + 4))
  end
end

-- Adds an entry to a log.  Returns nil, or what the script must return: INCARNATION if the log has a later
-- entry, which only a partly restored copy or a write by hand can cause.
local function refused(key, id, entry)
  local added = redis.pcall('XADD', key, 'MAXLEN', '~', LOG_ENTRIES, id, unpack(entry))
  if type(added) ~= 'table' or not added.err then return nil end
  local late = string.find(added.err, 'equal or smaller') or string.find(added.err, 'last possible ID')
  return late and 'INCARNATION' or added
end

