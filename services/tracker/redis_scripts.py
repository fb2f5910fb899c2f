"""What runs inside Redis: each change of leases is one script, so that nobody ever sees half of it.

    <prefix>lease:<address>  string, a JSON object {names, rule, when, client, chain, clients}; its time to live is the
                             lease. clients, where whitelist.scope is "client": by client the end (Unix time, ms)
    <prefix>name:<name>      sorted set of addresses by the end of their leases (Unix time, ms); lives as long as they
    <prefix>rules            hash of what commands said: "name <pattern>" or "endpoint <rule>", its end (Unix time, ms),
                             a blank, "allow" or "deny"
    <prefix>changes          channel: each change, as a JSON array of kind, source, and what the kind needs

Written for Redis 6.2 and later (ZADD GT, SET KEEPTTL). The prefix is the only key that is passed; the others are
computed from it inside the scripts: no cluster.
"""

from hashlib import sha1
from typing import Final, NamedTuple

LEASE: Final = "lease:"
NAME: Final = "name:"
CHANGES: Final = "changes"
"""These stand behind the prefix."""

LEARNED: Final = "learned"
"""Of a change: source, ms, then address and value of each lease that is new or longer."""
REVOKED: Final = "revoked"
"""Of a change: source, serial number, then the addresses."""
RULED: Final = "ruled"
"""Of a change: source; what holds now is to be read."""


class Script(NamedTuple):
    """A Lua script and the name under which Redis keeps it."""

    text: str
    digest: str


def _script(text: str) -> Script:
    whole = _COMMON + text
    return Script(whole, sha1(whole.encode(), usedforsecurity=False).hexdigest())


_COMMON: Final = """
local LEASE, NAME, CHANGES = KEYS[1] .. 'lease:', KEYS[1] .. 'name:', KEYS[1] .. 'changes'
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- A value as a table; an empty one where it is not ours.
local function read(value)
  local ok, lease = pcall(cjson.decode, value or '')
  if ok and type(lease) == 'table' then return lease end
  return {}
end

-- The names of a lease; none where the value is not ours.
local function names_of(value)
  local lease, names = read(value), {}
  if type(lease.names) == 'table' then
    for _, name in ipairs(lease.names) do
      if type(name) == 'string' then names[#names + 1] = name end
    end
  end
  return names
end

-- Index an address under a name for ms more milliseconds. Never shortens.
local function index(name, address, ms)
  local key = NAME .. name
  redis.call('ZADD', key, 'GT', now + ms, address)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, ms) end
end
"""

# ARGV: source, name, the other fields of the value as JSON, whether for the client alone ('1'), ms, most names per
# address, most addresses per name, most clients per address, then the addresses.
LEARN: Final = _script("""
local source, name, alone, ms = ARGV[1], ARGV[2], ARGV[4] == '1', tonumber(ARGV[5])
local most_names, most_addresses, most_clients = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local change = {'learned', source, ms}

-- For whom an address is open, this client included; nil: for all.
local function clients_of(before, client)
  if not alone then return nil end
  before = before and read(before) or {}
  if type(before.names) == 'table' and type(before.clients) ~= 'table' then return nil end
  local clients, count, first = {}, 0, nil
  clients[client] = now + ms
  for known, ends in pairs(before.clients or {}) do
    if tonumber(ends) and ends > now then
      clients[known] = math.max(ends, clients[known] or 0)
      count = count + 1
      if known ~= client and (first == nil or ends < clients[first]) then first = known end
    end
  end
  if count >= most_clients and first then clients[first] = nil end
  return clients
end

local lease = cjson.decode(ARGV[3])

local function merged(before)
  local names = {}
  for _, known in ipairs(before and names_of(before) or {}) do
    if known ~= name then names[#names + 1] = known end
  end
  names[#names + 1] = name
  while #names > most_names do table.remove(names, 1) end
  lease.names = names
  lease.clients = clients_of(before, lease.client)
  return cjson.encode(lease)
end

local fresh = merged(nil)
for i = 9, #ARGV do
  local key = LEASE .. ARGV[i]
  local before = redis.call('GET', key)
  local value = before and merged(before) or fresh
  local left = redis.call('PTTL', key)
  redis.call('SET', key, value, 'KEEPTTL')
  if left ~= -1 and left < ms then
    redis.call('PEXPIRE', key, ms)
    left = ms
  end
  index(name, ARGV[i], math.max(left, ms))
  change[#change + 1] = ARGV[i]
  change[#change + 1] = value
end
redis.call('ZREMRANGEBYSCORE', NAME .. name, '-inf', now)
redis.call('ZREMRANGEBYRANK', NAME .. name, 0, -1 - most_addresses)
redis.call('PUBLISH', CHANGES, cjson.encode(change))
return {}
""")

# ARGV: addresses. Returns, for each, its value (or nil) and the milliseconds it has left (negative: none, or no end).
FIND: Final = _script("""
local found = {}
for i = 1, #ARGV do
  found[2 * i - 1] = redis.call('GET', LEASE .. ARGV[i])
  found[2 * i] = redis.call('PTTL', LEASE .. ARGV[i])
end
return found
""")

# ARGV: source, ms, then the addresses. Returns address and value of each lease that became longer.
TOUCH: Final = _script("""
local ms = tonumber(ARGV[2])
local reached, followed, extended = {}, {}, {}

-- The value with the time of each client that still has one extended too.
local function with_clients(key, value)
  if not value:find('"clients"', 1, true) then return value end
  local lease = read(value)
  if type(lease.clients) ~= 'table' then return value end
  for client, ends in pairs(lease.clients) do
    if ends > now and ends < now + ms then lease.clients[client] = now + ms end
  end
  value = cjson.encode(lease)
  redis.call('SET', key, value, 'KEEPTTL')
  return value
end

local function extend(address, value)
  if reached[address] then return end
  reached[address] = true
  local left = redis.call('PTTL', LEASE .. address)
  if left < 0 or left >= ms then return end
  redis.call('PEXPIRE', LEASE .. address, ms)
  for _, name in ipairs(names_of(value)) do index(name, address, ms) end
  value = with_clients(LEASE .. address, value)
  extended[#extended + 1] = address
  extended[#extended + 1] = value
end

for i = 3, #ARGV do
  local value = redis.call('GET', LEASE .. ARGV[i])
  local names = names_of(value)
  if #names > 0 then
    extend(ARGV[i], value)
    for _, name in ipairs(names) do
      if not followed[name] then
        followed[name] = true
        for _, sibling in ipairs(redis.call('ZRANGE', NAME .. name, 0, -1)) do
          local other = redis.call('GET', LEASE .. sibling)
          if other then extend(sibling, other) else redis.call('ZREM', NAME .. name, sibling) end
        end
      end
    end
  end
end
if #extended > 0 then
  local change = {'learned', ARGV[1], ms}
  for i = 1, #extended do change[#change + 1] = extended[i] end
  redis.call('PUBLISH', CHANGES, cjson.encode(change))
end
return extended
""")

# ARGV: source, serial number, 'name' or 'address', and which. Returns the addresses whose lease ended.
REVOKE: Final = _script("""
local addresses = {ARGV[4]}
if ARGV[3] == 'name' then addresses = redis.call('ZRANGE', NAME .. ARGV[4], 0, -1) end
local ended = {}
for _, address in ipairs(addresses) do
  local value = redis.call('GET', LEASE .. address)
  if value then
    for _, name in ipairs(names_of(value)) do redis.call('ZREM', NAME .. name, address) end
    redis.call('DEL', LEASE .. address)
    ended[#ended + 1] = address
  end
end
if ARGV[3] == 'name' then redis.call('DEL', NAME .. ARGV[4]) end
-- An address that was named is published also where its lease had ended: flows to it are cut all the same.
local change = {'revoked', ARGV[1], tonumber(ARGV[2])}
for _, address in ipairs(ARGV[3] == 'name' and ended or addresses) do change[#change + 1] = address end
if #change > 3 then redis.call('PUBLISH', CHANGES, cjson.encode(change)) end
return ended
""")

# ARGV: source, how many are said, for each of them its field, verdict and ms, then the fields that are taken back.
RULE: Final = _script("""
local key, said = KEYS[1] .. 'rules', tonumber(ARGV[2])
for i = 0, said - 1 do
  redis.call('HSET', key, ARGV[3 + 3 * i], string.format('%.0f %s', now + ARGV[5 + 3 * i], ARGV[4 + 3 * i]))
end
for i = 3 + 3 * said, #ARGV do redis.call('HDEL', key, ARGV[i]) end
local last, held = now, redis.call('HGETALL', key)
for i = 1, #held, 2 do
  local ends = tonumber(held[i + 1]:match('^%d+')) or 0
  if ends <= now then redis.call('HDEL', key, held[i]) end
  last = math.max(last, ends)
end
if last > now then redis.call('PEXPIRE', key, last - now) end
redis.call('PUBLISH', CHANGES, cjson.encode({'ruled', ARGV[1], 0}))
return {}
""")

# Returns, for each that has not ended, its field, its verdict and the milliseconds it has left.
RULES: Final = _script("""
local held, told = redis.call('HGETALL', KEYS[1] .. 'rules'), {}
for i = 1, #held, 2 do
  local ends, verdict = held[i + 1]:match('^(%d+) (%l+)$')
  if ends and tonumber(ends) > now then
    told[#told + 1] = held[i]
    told[#told + 1] = verdict
    told[#told + 1] = tonumber(ends) - now
  end
end
return told
""")

ALL: Final = (LEARN, FIND, TOUCH, REVOKE, RULE, RULES)
