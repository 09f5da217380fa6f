-- Sets a field of a hash, and for how long the hash stays.
-- KEYS: the hash. ARGV: field, value, for how long in ms.
redis.call('HDEL', KEYS[1], '') -- first, so that a full Redis takes what follows
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
