"""What the server does at once about leases and pointers. The rules are those of `scripts`.

In the hash of a topic: ``h`` who holds the lease, empty where it was given up; ``l`` until when (µs; 0 once it is over), ``q``
whether it was asked to stop, ``w`` what the topic ends with if the lease runs out.
"""

from __future__ import annotations

from .scripts import Script

ACQUIRE = Script("""
-- ARGV: channel, new epoch, holder, how long (µs), what it ends with, how long positions are kept (ms)
local m = load()
if m.closed then return {'closed', m.closed} end
local lease = redis.call('HMGET', META, 'h', 'l', 'q')
local stop = '0'
if lease[1] == ARGV[3] then stop = lease[3]
elseif lease[1] and tonumber(lease[2]) > now then return {'held', lease[1], text(tonumber(lease[2]) - now)} end
if not m.epoch then
  local kind = redis.call('TYPE', LOG)['ok']
  if kind ~= 'none' and kind ~= 'stream' then return redis.error_reply('WRONGTYPE ' .. LOG .. ' is a ' .. kind) end
  if kind == 'stream' then redis.call('DEL', LOG) end
  if m.deleted then redis.call('DEL', META) end
  redis.call('HSET', META, 'e', ARGV[2], 's', '0', 'f', '0', 'b', '0', 't', text(now))
end
local deadline = text(now + tonumber(ARGV[4]))
redis.call('HSET', META, 'h', ARGV[3], 'l', deadline, 'q', stop, 'w', ARGV[5])
redis.call('PEXPIRE', META, ARGV[6])
redis.call('PUBLISH', ARGV[1], '0')
return {'done', deadline, ARGV[4], stop, m.listed and 1 or 0}
""")

RENEW = Script("""
-- ARGV: holder, how long (µs), how long positions are kept (ms)
local lease = redis.call('HMGET', META, 'h', 'l', 'q')
if lease[1] ~= ARGV[1] or tonumber(lease[2]) <= now then return {} end
local deadline = text(now + tonumber(ARGV[2]))
redis.call('HSET', META, 'l', deadline)
redis.call('PEXPIRE', META, ARGV[3])
return {deadline, ARGV[2], lease[3]}
""")

RELEASE = Script("""
-- ARGV: holder
local lease = redis.call('HMGET', META, 'h', 'l')
if lease[1] ~= ARGV[1] or lease[2] == '0' then return 0 end
redis.call('HSET', META, 'h', '', 'l', '0', 'q', '0', 'w', '')
return 1
""")

STOP = Script("""
-- ARGV: holder
local lease = redis.call('HMGET', META, 'h', 'l')
if lease[1] ~= ARGV[1] then return 0 end
if lease[2] ~= '0' then redis.call('HSET', META, 'q', '1') end
return 1
""")

LEASES = Script("""
-- KEYS: hashes of several topics
local found = {}
for place, key in ipairs(KEYS) do
  local lease = redis.call('HMGET', key, 'h', 'l', 'q')
  found[place] = lease[1] and lease[1] ~= '' and {lease[1], lease[2], text(tonumber(lease[2]) - now), lease[3]} or {}
end
return found
""")

MOVE = Script("""
-- KEYS: the pointer
-- ARGV: where it must lead, or nothing; where it shall lead, or nothing; how long it is kept (ms)
local leads = redis.call('GET', KEYS[1]) or ''
if leads ~= ARGV[1] then return leads end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return ARGV[2]
""")
