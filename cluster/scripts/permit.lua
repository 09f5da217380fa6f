-- Does, to a key that nobody uses, everything that a node does, so that a user who
-- may not is found out at the start.
-- KEYS: a key that does not exist, and does not afterwards.
-- Returns the first error.
local key = KEYS[1]
for _, command in ipairs({
  { 'DEL', key }, { 'TIME' }, { 'PEXPIRE', key, '1000' },
  { 'ZSCORE', key, 'm' }, { 'ZADD', key, '1', 'm' }, { 'ZRANGEBYSCORE', key, '-inf', '1', 'WITHSCORES' },
  { 'ZREM', key, 'm' }, { 'ZREMRANGEBYSCORE', key, '-inf', '1' }, { 'ZCOUNT', key, '-inf', '1' },
  { 'ZREMRANGEBYRANK', key, '0', '1' },
  { 'HGETALL', key }, { 'HSCAN', key, '0' }, { 'HLEN', key }, { 'HGET', key, 'f' }, { 'HMGET', key, 'f' },
  { 'HSET', key, 'f', 'v' }, { 'HINCRBY', key, 'f', '1' }, { 'HDEL', key, 'f' },
  { 'SMEMBERS', key }, { 'SADD', key, 'm' }, { 'SREM', key, 'm' },
  { 'XLEN', key }, { 'XRANGE', key, '-', '+' }, { 'XREAD', 'STREAMS', key, '0' },
  { 'XADD', key, '*', 'f', 'v' }, { 'XTRIM', key, 'MAXLEN', '0' }, { 'XDEL', key, '1-1' },
}) do
  local answer = redis.pcall(unpack(command))
  if type(answer) == 'table' and answer.err then
    return answer
  end
  redis.call('DEL', key)
end
return 1
