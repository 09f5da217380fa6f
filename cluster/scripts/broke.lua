-- Notes that an item of the log has broken the engine. Fenced.
-- KEYS: own, tries. ARGV: epoch, incarnation, place, how often.
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
return 1
