-- Gives a partition up. Fenced.
-- KEYS: own, meta, log, base. ARGV: those of the fence, the place up to which all is told,
-- successor.
redis.call('HSET', KEYS[1], 'released', '1', 'cut', ARGV[6], 'next', ARGV[7])
return 1
