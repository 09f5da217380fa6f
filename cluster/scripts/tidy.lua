-- Cuts off what a node has read of its stream, and lets the stream outlive it for some time.
-- KEYS: out, meta. ARGV: first id that stays (or none), bytes read, for how long the stream outlives
-- its node in ms.
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
if ARGV[1] ~= '' then
  redis.call('XTRIM', KEYS[1], 'MINID', '=', ARGV[1])
  if redis.call('XLEN', KEYS[1]) == 0 then
    redis.call('HSET', KEYS[2], 'got', redis.call('HGET', KEYS[2], 'put') or '0')
  else
    redis.call('HINCRBY', KEYS[2], 'got', ARGV[2])
  end
end
return 1
