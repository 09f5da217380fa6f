-- Renews a node's lease and cuts off what it has read of its stream.
-- KEYS: lease, gone, out, meta. ARGV: lease in ms, first id that stays (or none),
-- bytes read, for how long the stream outlives its node in ms, how manieth renewal this is.
-- Returns 1, or 0 if the node has been buried.
if redis.call('EXISTS', KEYS[2]) == 1 then
  return 0
end
redis.call('SET', KEYS[1], ARGV[5], 'PX', ARGV[1])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
redis.call('PEXPIRE', KEYS[4], ARGV[4])
if ARGV[2] ~= '' then
  redis.call('XTRIM', KEYS[3], 'MINID', '=', ARGV[2])
  if redis.call('XLEN', KEYS[3]) == 0 then
    redis.call('HSET', KEYS[4], 'got', redis.call('HGET', KEYS[4], 'put') or '0')
  else
    redis.call('HINCRBY', KEYS[4], 'got', ARGV[3])
  end
end
return 1
