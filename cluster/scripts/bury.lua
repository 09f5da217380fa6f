-- Takes a node for dead, for good, unless it has a lease and the death is not proved.
-- KEYS: leases. ARGV: incarnation, its tombstone, 1 if the death is proved, for how long in ms the
-- dead are remembered, how many of them.
-- Returns 1, or 0 if the node lives.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[3] ~= '1' and tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '0') > now then
  return 0
end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], 'NX', string.format('%.0f', now), ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[4]))
local over = redis.call('ZCOUNT', KEYS[1], '-inf', string.format('%.0f', now))
if over > tonumber(ARGV[5]) then
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, over - ARGV[5] - 1)
end
return 1
