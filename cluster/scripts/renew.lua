-- Renews a node's lease in a Redis that is full, and refuses a command that may need memory. Of
-- a script it refuses only the first such command, unless it has written something
-- already: so it removes something first that is not there.
-- KEYS: leases. ARGV: incarnation, until when it lives.
redis.call('ZREM', KEYS[1], '')
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
return 1
