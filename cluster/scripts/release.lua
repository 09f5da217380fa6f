-- Gives a partition up. Fenced.
-- KEYS: own, meta. ARGV: epoch, incarnation, the place up to which all is told, successor.
if behind(redis.call('HGET', KEYS[2], 'last'), ARGV[3]) then
  return redis.error_reply('BEHIND the log has lost its end')
end
redis.call('HSET', KEYS[1], 'released', '1', 'cut', ARGV[3], 'next', ARGV[4])
return 1
