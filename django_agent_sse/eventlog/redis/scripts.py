"""What the server does at once, in Lua: each verb of the log is one script, which runs as a whole or not at all.

Every script looks before it writes, so that whatever the server refuses (a key of the wrong type, no memory, a read-only
replica) it refuses before the first write; after that nothing can fail. Effects are replicated as one transaction.

The hash of a topic: ``e`` epoch, ``s`` top, ``n`` nonce of the top, ``f`` floor, ``b`` bytes, ``o`` when the oldest kept event
was appended and ``t`` when the newest was (µs), ``c`` why it is closed, ``p`` the epoch before a fork, ``i`` whether the topic is
in the lists, ``x`` that it was deleted, ``r`` when somebody was last known to follow it (µs); of its lease see `lease_scripts`.
An entry of the stream has the id ``<offset>-<nonce>`` and the fields ``e`` (``:`` and the name, or nothing), ``d`` data, ``t``
(µs) and, where there is one, ``r`` retry.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from typing import Any

import redis

_COMMON = """
local META, LOG = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function text(number) return string.format('%.0f', number) end

local function load()
  local h = redis.call('HMGET', META, 'e', 's', 'n', 'f', 'b', 'o', 't', 'c', 'p', 'i', 'x')
  return {epoch = h[1], top = tonumber(h[2] or 0), nonce = h[3] or '', floor = tonumber(h[4] or 0), bytes = tonumber(h[5] or 0),
          oldest = tonumber(h[6] or 0), newest = tonumber(h[7] or 0), closed = h[8], forked = h[9] or '', listed = h[10],
          deleted = h[11]}
end

local function size(entry) return #entry[2][4] + math.max(0, #entry[2][2] - 1) end

-- Move the floor over what is beyond these bounds; the newest event stays whatever its size. Writes only if something goes.
local function retain(m, most, room, since)
  local before = m.floor
  local function surplus()
    local kept = m.top - m.floor
    return kept > 0 and (kept > most or (m.bytes > room and kept > 1) or m.oldest <= since)
  end
  while surplus() do
    local chunk = redis.call('XRANGE', LOG, text(m.floor + 1), '+', 'COUNT', 16)
    if #chunk == 0 then  -- the stream expired as a whole, or was evicted
      m.floor, m.bytes = m.top, 0
    end
    for _, entry in ipairs(chunk) do
      m.oldest = tonumber(entry[2][6])
      if not surplus() then break end
      m.floor = tonumber(string.match(entry[1], '^%d+'))
      m.bytes = m.bytes - size(entry)
    end
  end
  if m.floor > before then
    redis.call('XTRIM', LOG, 'MINID', '=', text(m.floor + 1))
    redis.call('HSET', META, 'f', text(m.floor), 'b', text(m.bytes), 'o', text(m.oldest))
  end
  return m.floor - before
end

local PACKED = 262144  -- bytes of events that an answer has as one text of JSON: clients in Python read that ten times as fast

local function head(m) return {m.epoch or '', text(m.floor), text(m.top), m.closed, m.nonce, m.forked} end
"""


class Script:
    """Text, and the digest that the server knows it by."""

    def __init__(self, body: str) -> None:
        self.text = _COMMON + body
        self._digest = sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def run(self, keys: Sequence[str], args: Sequence[Any], client: redis.Redis) -> Any:
        try:
            return client.evalsha(self._digest, len(keys), *keys, *args)
        except redis.exceptions.NoScriptError:
            return client.eval(self.text, len(keys), *keys, *args)


APPEND = Script("""
-- KEYS: hash, stream, and what stands for the idempotency key, if there is one
-- ARGV: channel, new epoch, nonce, expected top, window of the key (ms), events, bytes and age (µs) to keep, how long positions
-- are kept (ms), bytes that a notification takes, how long ago the first try began (µs) or 0, what must be true of the lease
-- (h or x and its holder, see `leasing`) or nothing, why the topic is closed with these events or nothing; then name, data and
-- retry of each event
local channel, new, nonce, expect = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local most, room, age, inline = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[10])
local m = load()
local function done(epoch, first, last, by) return {'done', epoch, first, last, by, m.listed and 1 or 0} end

if KEYS[3] then
  local before = redis.call('GET', KEYS[3])  -- also where it cannot count: it must be of no other type
  if before and m.epoch then
    local epoch, first, last, by = string.match(before, '^(%S+) (%S+) (%S+) (%S+)$')
    if epoch == m.epoch or epoch == m.forked then return done(epoch, first, last, by) end
  end
end
local since = now - tonumber(ARGV[11])
if m.epoch and since < now then  -- the first try's answer was lost: did it append? Then it is among what is no older
  local last, at = '+', now
  while at >= since do
    local chunk = redis.call('XREVRANGE', LOG, last, '-', 'COUNT', 1000)
    if #chunk == 0 then
      if m.floor > 0 then return {'lost'} end  -- it may have been, and be gone already
      break
    end
    for _, entry in ipairs(chunk) do
      local offset, by = string.match(entry[1], '^(%d+)-(%d+)$')
      if by == nonce then return done(m.epoch, text(tonumber(offset) - (#ARGV - 13) / 3 + 1), offset, nonce) end
      last, at = '(' .. entry[1], tonumber(entry[2][6])
    end
  end
end
if m.closed then  -- perhaps by the first try
  if since < now and m.closed == ARGV[13] then return done(m.epoch, text(m.top + 1), text(m.top), m.nonce) end
  return {'closed', m.closed}
end
if expect ~= '' and tonumber(expect) ~= m.top then return {'conflict', text(m.top)} end
if ARGV[12] ~= '' then
  local lease = redis.call('HMGET', META, 'h', 'l')
  local until_ = tonumber(lease[2] or 0)
  local held = 'h' .. (lease[1] or '') == ARGV[12] and until_ > now
  if not held and not ('x' .. (lease[1] or '') == ARGV[12] and until_ > 0 and until_ <= now) then return {'unheld'} end
end
local function close()
  redis.call('HSET', META, 'c', ARGV[13])
  if redis.call('HEXISTS', META, 'h') == 1 then redis.call('HSET', META, 'l', '0') end
  redis.call('PUBLISH', channel, '0')
end
if #ARGV < 14 and ARGV[13] ~= '' and m.epoch then close() end
if #ARGV < 14 then return done(m.epoch or '', text(m.top + 1), text(m.top), nonce) end

if not m.epoch then
  local kind = redis.call('TYPE', LOG)['ok']
  if kind ~= 'none' and kind ~= 'stream' then return redis.error_reply('WRONGTYPE ' .. LOG .. ' is a ' .. kind) end
  if kind == 'stream' then redis.call('DEL', LOG) end  -- of a topic whose hash was evicted: its numbers would be in the way
  if m.deleted then redis.call('DEL', META) end
  m = {epoch = new, top = 0, nonce = '', floor = 0, bytes = 0, oldest = now, forked = ''}
end
if m.top == m.floor then m.oldest = now end
local first, at, inlined, total = m.top + 1, text(now), {}, 0
local before = m.nonce ~= '' and m.nonce or '-'  -- who takes the event from the notification can prove that it is the next one
for i = 14, #ARGV, 3 do
  local name, data, retry = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  m.top = m.top + 1
  local id = text(m.top) .. '-' .. nonce
  if retry == '' then redis.call('XADD', LOG, id, 'e', name, 'd', data, 't', at)
  else redis.call('XADD', LOG, id, 'e', name, 'd', data, 't', at, 'r', retry) end
  m.bytes = m.bytes + #data + math.max(0, #name - 1)
  total = total + #data + #name + 8  -- and what stands before each: many empty events are no small message
  if total <= inline then inlined[#inlined + 1] = #name .. ' ' .. #data .. ' ' .. retry .. '\\n' .. name .. data end
end
redis.call('HSET', META, 'e', m.epoch, 's', text(m.top), 'n', nonce, 'f', text(m.floor), 'b', text(m.bytes), 'o', text(m.oldest),
           't', at)
retain(m, most, room, now - age)
redis.call('PEXPIRE', LOG, text(math.ceil(age / 1000)))
redis.call('PEXPIRE', META, ARGV[9])
if KEYS[3] then
  redis.call('SET', KEYS[3], m.epoch .. ' ' .. text(first) .. ' ' .. text(m.top) .. ' ' .. nonce, 'PX', ARGV[5])
end
if ARGV[13] ~= '' then
  close()
  return done(m.epoch, text(first), text(m.top), nonce)
end
local count = total <= inline and m.top - first + 1 or 0
local lead = '1 ' .. m.epoch .. ' ' .. text(first) .. ' ' .. text(m.top) .. ' ' .. nonce .. ' ' .. before .. ' ' .. text(m.floor)
             .. ' ' .. at .. ' ' .. count .. '\\n'
redis.call('PUBLISH', channel, count > 0 and lead .. table.concat(inlined) or lead)
return done(m.epoch, text(first), text(m.top), nonce)
""")

READ = Script("""
-- ARGV: offset, events and bytes at most, age (µs)
local offset, most, room = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local m = load()
if not m.epoch then return {m.deleted and 'deleted' or 'vanished'} end
retain(m, 9e15, 9e15, now - tonumber(ARGV[4]))
local before, found = '', {}
if offset > m.floor and offset <= m.top then
  local own = redis.call('XRANGE', LOG, text(offset), text(offset))[1]
  before = own and string.match(own[1], '%d+$') or ''
end
local after, count, step = math.max(offset, m.floor), 0, 16
if m.bytes < 1024 * (m.top - m.floor) then step = 256 end  -- small ones, as most are
while after < m.top and count < most and room >= 0 do
  local chunk = redis.call('XRANGE', LOG, text(after + 1), '+', 'COUNT', math.min(most - count, step))
  if #chunk == 0 then break end
  local taken, ids, names, datas, times, bytes, alike = {}, {}, {}, {}, {}, 0, true
  for place, entry in ipairs(chunk) do
    local own, fields = size(entry), entry[2]
    room, bytes = room - own, bytes + own
    if room < 0 and count > 0 then break end
    taken[place], count = entry, count + 1
    if #fields == 6 then ids[place], names[place], datas[place], times[place] = entry[1], fields[2], fields[4], fields[6]
    else alike = false end
    after = tonumber(string.match(entry[1], '^%d+'))
  end
  if #taken > 0 and alike and bytes <= PACKED then found[#found + 1] = cjson.encode({ids, names, datas, times})
  else for _, entry in ipairs(taken) do found[#found + 1] = entry end end
end
if after < m.top and count == 0 and #redis.call('XRANGE', LOG, '-', '+', 'COUNT', 1) == 0 then
  m.oldest = 0  -- the stream was evicted and its hash was not: what there was is lost
  retain(m, 0, 0, now)
end
return {'page', head(m), before, found}
""")

STATE = Script("""
-- ARGV: age (µs)
local m = load()
if not m.epoch then return {} end
retain(m, 9e15, 9e15, now - tonumber(ARGV[1]))
return {head(m), text(m.bytes), text(m.oldest), text(m.newest)}
""")

CLOSE = Script("""
-- ARGV: channel, new epoch, reason, how long positions are kept (ms)
local m = load()
if m.closed then return {0, 1} end
if not m.epoch then
  if m.deleted then redis.call('DEL', META) end
  redis.call('HSET', META, 'e', ARGV[2], 's', '0', 'f', '0', 'b', '0')
end
redis.call('HSET', META, 'c', ARGV[3])
if redis.call('HEXISTS', META, 'h') == 1 then redis.call('HSET', META, 'l', '0') end
if not m.newest or m.newest == 0 then redis.call('HSET', META, 't', text(now)) end
redis.call('PEXPIRE', META, ARGV[4])
redis.call('PUBLISH', ARGV[1], '0')
return {1, m.listed and 1 or 0}
""")

DELETE = Script("""
-- ARGV: channel, how long it is remembered that somebody deleted the topic (ms); 0 to say that it was lost instead
local m = load()
if not m.epoch then return 0 end
redis.call('DEL', META, LOG)
if ARGV[2] ~= '0' then
  redis.call('HSET', META, 'x', '1')
  redis.call('PEXPIRE', META, ARGV[2])
end
redis.call('PUBLISH', ARGV[1], '0')
return 1
""")

TRIM = Script("""
-- ARGV: channel, events, bytes, age (µs) to keep; age that the log keeps
local m = load()
if not m.epoch then return 0 end
retain(m, 9e15, 9e15, now - tonumber(ARGV[5]))
local dropped = retain(m, tonumber(ARGV[2]), tonumber(ARGV[3]), now - tonumber(ARGV[4]))
if dropped > 0 then redis.call('PUBLISH', ARGV[1], '0') end
return dropped
""")

FORK = Script("""
-- ARGV: channel, the epoch whose events are not what they were, the next one, how long positions are kept (ms)
local m = load()
if m.epoch ~= ARGV[2] then return 0 end
redis.call('HSET', META, 'e', ARGV[3], 'p', ARGV[2])
redis.call('PEXPIRE', META, ARGV[4])
redis.call('PUBLISH', ARGV[1], '0')
return 1
""")

LISTED = Script("""
if redis.call('HEXISTS', META, 'e') == 1 then return redis.call('HSET', META, 'i', '1') end
return 0
""")

FOLLOWED = Script("""
-- KEYS: hashes of several topics
for _, key in ipairs(KEYS) do
  if redis.call('HEXISTS', key, 'e') == 1 then redis.call('HSET', key, 'r', text(now)) end
end
return 0
""")
