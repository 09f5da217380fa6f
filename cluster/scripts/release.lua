-- Gives a partition up. Fenced.
-- KEYS: own. ARGV: epoch, incarnation, the place up to which all is told, successor.
redis.call('HSET', KEYS[1], 'released', '1', 'cut', ARGV[3], 'next', ARGV[4])
return 1
