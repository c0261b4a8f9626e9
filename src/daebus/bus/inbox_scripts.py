"""What a consumer of an inbox does on the server, as scripts: each is one step for all others.

The inbox is the first key of each, the group its first argument; what else it takes stands there.
"""

from __future__ import annotations

from daebus.bus.script import Script

#: Begins what only the owner of an entry may do with it.
_IF_MINE = """\
local key, group, me, id = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
if not redis.call('XPENDING', key, group, id, id, 1, me)[1] then
  return 0
end
"""

#: group, consumer, ids: makes these as fresh as just delivered; gives those that are not its own.
RENEW = Script("""\
local mine, lost = {}, {}
for i = 3, #ARGV do
  local is_mine = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])[1]
  local list = is_mine and mine or lost
  list[#list + 1] = ARGV[i]
end
if mine[1] then
  mine[#mine + 1] = 'JUSTID'
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, unpack(mine))
end
return lost
""")

#: group, consumer, lease, room, suspects, suspect_at, nobody: gives whether there is more, and for
#: each entry its id, its fields, its count, and whether replicas died of it so often that it is
#: taken only `suspects` at a time. What is not in the stream any more is not pending either.
TAKE_OVER = Script("""\
local key, group, me, lease = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local room, suspects, suspect_at = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local taken, more = {}, 0
for _, entry in ipairs(redis.call('XPENDING', key, group, 'IDLE', lease, '-', '+', 1000)) do
  local id, owner, count = entry[1], entry[2], entry[4] + 1
  local is_suspect = owner ~= ARGV[7] and count >= suspect_at
  if #taken >= room or (is_suspect and suspects == 0) then
    more = 1
  else
    local claimed = redis.call('XCLAIM', key, group, me, lease, id)[1]
    if claimed then
      taken[#taken + 1] = {id, claimed[2], count, is_suspect and 1 or 0}
      suspects = is_suspect and suspects - 1 or suspects
    else
      redis.call('XACK', key, group, id)
    end
  end
end
return {more, taken}
""")

#: group, ids: removes them.
ACKNOWLEDGE = Script("""\
redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 2))
return redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
""")

#: group, consumer, id, the new owner, its idle time, its count.
PARK = Script(
    _IF_MINE
    + """\
redis.call('XCLAIM', key, group, ARGV[4], 0, id, 'IDLE', ARGV[5], 'RETRYCOUNT', ARGV[6], 'JUSTID')
return 1
"""
)

#: group, consumer, id, fields; the second key is the dead stream. Nothing is lost if it refuses.
BURY = Script(
    _IF_MINE
    + """\
local now = redis.call('TIME')
local at = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('XADD', KEYS[2], '*', 'at', string.format('%.0f', at), 'entry', id, unpack(ARGV, 4))
redis.call('XACK', key, group, id)
redis.call('XDEL', key, id)
return 1
"""
)

#: group, consumer, nobody, idle time: gives back what the consumer has, and forgets it if it has
#: nothing. A consumer that is removed takes its entries with it: nobody could claim them.
LEAVE = Script("""\
local key, group, me = KEYS[1], ARGV[1], ARGV[2]
for _, entry in ipairs(redis.call('XPENDING', key, group, '-', '+', 10000, me)) do
  redis.call('XCLAIM', key, group, ARGV[3], 0, entry[1], 'IDLE', ARGV[4],
    'RETRYCOUNT', math.max(1, entry[4] - 1), 'JUSTID')
end
if not redis.call('XPENDING', key, group, '-', '+', 1, me)[1] then
  redis.call('XGROUP', 'DELCONSUMER', key, group, me)
end
return 1
""")

#: group, idle time, two consumers that stay: forgets those that have nothing and did nothing.
CLEAN_UP = Script("""\
local removed = 0
for _, found in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for i = 1, #found, 2 do
    consumer[found[i]] = found[i + 1]
  end
  local is_old = consumer['pending'] == 0 and consumer['idle'] > tonumber(ARGV[2])
  if is_old and consumer['name'] ~= ARGV[3] and consumer['name'] ~= ARGV[4] then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer['name'])
    removed = removed + 1
  end
end
return removed
""")

ALL = (RENEW, TAKE_OVER, ACKNOWLEDGE, PARK, BURY, LEAVE, CLEAN_UP)
