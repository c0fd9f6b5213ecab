-- Gives a replica its lease: whole tokens of what has come up, by this server's clock alone.
-- KEYS: the pool (level, at), the replicas (name -> when it asked, and what it said)
-- ARGV: name, what it says, tokens wanted, capacity a second, microseconds: of a period, until silent, until forgotten
-- Returns: tokens, replicas alive, replicas silent, what the others that are alive say
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local stamp = string.format('%.0f', now)
local name, wanted, capacity = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local period, silent_after, forget = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

redis.call('HSET', KEYS[2], name, stamp .. ' ' .. ARGV[2])
local alive, silent, others = 0, 0, {}
local all = redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  local space = string.find(all[i + 1], ' ', 1, true)
  -- A clock that was set back makes old ones of the future.
  local age = space and math.abs(now - tonumber(string.sub(all[i + 1], 1, space))) or forget
  if age >= forget then
    redis.call('HDEL', KEYS[2], all[i])
  elseif age >= silent_after then
    silent = silent + 1
  else
    alive = alive + 1
    if all[i] ~= name then others[#others + 1] = string.sub(all[i + 1], space + 1) end
  end
end

-- Who is silent may be cut off, and spend its safe share.
local rate = capacity * alive / (alive + silent)
local full = 0
if rate > 0 then full = math.max(1, rate * period / 1000000) end
local pool = redis.call('HMGET', KEYS[1], 'level', 'at')
local level = full
if pool[1] then
  local elapsed = math.max(0, now - tonumber(pool[2]))
  level = math.min(full, tonumber(pool[1]) + rate * elapsed / 1000000)
end
local tokens = math.floor(math.min(wanted, level))
redis.call('HSET', KEYS[1], 'level', string.format('%.6f', level - tokens), 'at', stamp)
redis.call('PEXPIRE', KEYS[1], math.ceil(forget / 1000))
redis.call('PEXPIRE', KEYS[2], math.ceil(forget / 1000))
return {tokens, alive, silent, others}
