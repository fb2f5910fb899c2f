"""What runs inside Redis: each change of leases is one script, so that nobody ever sees half of it.

    netstack:lease:<address>  string, a JSON object {names, rule, when}; its time to live is the lease
    netstack:name:<name>      sorted set of addresses by the end of their leases (Unix time, ms); lives as long as they

Written for Redis 6.2 and later (ZADD GT, SET KEEPTTL). Keys are computed inside the scripts: no cluster.
"""

from hashlib import sha1
from typing import Final, NamedTuple

LEASE_PREFIX: Final = "netstack:lease:"
NAME_PREFIX: Final = "netstack:name:"


class Script(NamedTuple):
    """A Lua script and the name under which Redis keeps it."""

    text: str
    digest: str


def _script(text: str) -> Script:
    whole = _COMMON + text
    return Script(whole, sha1(whole.encode(), usedforsecurity=False).hexdigest())


_COMMON: Final = """
local LEASE, NAME = 'netstack:lease:', 'netstack:name:'
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- The names of a lease; none where the value is not ours.
local function names_of(value)
  local ok, lease = pcall(cjson.decode, value or '')
  local names = {}
  if ok and type(lease) == 'table' and type(lease.names) == 'table' then
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

# ARGV: name, rule, when (Unix time, s), ms, most names per address, most addresses per name, then the addresses.
LEARN: Final = _script("""
local name, ms, most_names, most_addresses = ARGV[1], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
for i = 7, #ARGV do
  local key = LEASE .. ARGV[i]
  local names = {}
  for _, known in ipairs(names_of(redis.call('GET', key))) do
    if known ~= name then names[#names + 1] = known end
  end
  names[#names + 1] = name
  while #names > most_names do table.remove(names, 1) end
  local left = redis.call('PTTL', key)
  redis.call('SET', key, cjson.encode({names = names, rule = ARGV[2], when = tonumber(ARGV[3])}), 'KEEPTTL')
  if left ~= -1 and left < ms then
    redis.call('PEXPIRE', key, ms)
    left = ms
  end
  index(name, ARGV[i], math.max(left, ms))
end
redis.call('ZREMRANGEBYSCORE', NAME .. name, '-inf', now)
redis.call('ZREMRANGEBYRANK', NAME .. name, 0, -1 - most_addresses)
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

# ARGV: ms, then the addresses. Returns address and value of each lease that became longer.
TOUCH: Final = _script("""
local ms = tonumber(ARGV[1])
local reached, followed, extended = {}, {}, {}

local function extend(address, value)
  if reached[address] then return end
  reached[address] = true
  local left = redis.call('PTTL', LEASE .. address)
  if left < 0 or left >= ms then return end
  redis.call('PEXPIRE', LEASE .. address, ms)
  for _, name in ipairs(names_of(value)) do index(name, address, ms) end
  extended[#extended + 1] = address
  extended[#extended + 1] = value
end

for i = 2, #ARGV do
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
return extended
""")

# ARGV: 'name' or 'address', and which. Returns the addresses whose lease ended.
REVOKE: Final = _script("""
local addresses = {ARGV[2]}
if ARGV[1] == 'name' then addresses = redis.call('ZRANGE', NAME .. ARGV[2], 0, -1) end
local ended = {}
for _, address in ipairs(addresses) do
  local value = redis.call('GET', LEASE .. address)
  if value then
    for _, name in ipairs(names_of(value)) do redis.call('ZREM', NAME .. name, address) end
    redis.call('DEL', LEASE .. address)
    ended[#ended + 1] = address
  end
end
if ARGV[1] == 'name' then redis.call('DEL', NAME .. ARGV[2]) end
return ended
""")

ALL: Final = (LEARN, FIND, TOUCH, REVOKE)
