-- Appends a batch to a partition's log, unless that is full. The last one to go
-- in may be more than its bound, or a large one would wait for ever among small ones.
-- KEYS: log, meta. ARGV: batch, the log's bound in bytes.
-- Returns the entry's id, or nothing if the log is full.
--
-- Every entry carries the id of the one before it, so that an owner who reads
-- on after Redis has lost its last entries notices.
local m = redis.call('HMGET', KEYS[2], 'put', 'cut', 'last')
local put = tonumber(m[1] or '0')
if put - tonumber(m[2] or '0') >= tonumber(ARGV[2]) then
  return false
end
local id = redis.call('XADD', KEYS[1], '*', 'p', m[3] or '', 'b', ARGV[1])
redis.call('HSET', KEYS[2], 'put', string.format('%.0f', put + #ARGV[1]), 'last', id)
return id
