-- Cuts a partition's log below what the checkpoints have. Fenced.
-- KEYS: own, log, base, meta, tries. ARGV: epoch, incarnation, the first id that
-- stays, position, edges, bytes that are cut off, tries that are over...
if behind(redis.call('HGET', KEYS[4], 'last'), ARGV[4]) then
  return redis.error_reply('BEHIND the log has lost its end')
end
redis.call('XTRIM', KEYS[2], 'MINID', '=', ARGV[3])
redis.call('HSET', KEYS[3], 'position', ARGV[4], 'edges', ARGV[5])
if redis.call('XLEN', KEYS[2]) == 0 then
  redis.call('HSET', KEYS[4], 'cut', redis.call('HGET', KEYS[4], 'put') or '0')
else
  redis.call('HINCRBY', KEYS[4], 'cut', ARGV[6])
end
for i = 7, #ARGV do
  redis.call('HDEL', KEYS[5], ARGV[i])
end
return 1
