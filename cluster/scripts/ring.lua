-- Leaves one new entry in a stream, to make a read of it return or the stream be there.
-- KEYS: the stream. ARGV: for how long it stays in ms.
redis.call('XTRIM', KEYS[1], 'MAXLEN', 0) -- first, so that a full Redis takes what follows
redis.call('XADD', KEYS[1], '*', 'r', '')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
