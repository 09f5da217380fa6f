-- Puts what an owner tells an edge into the edge's stream.
-- KEYS: out, meta, gone, lease. ARGV: a name for this entry, the stream's bound
-- in bytes, data, 1 if there was patience enough.
-- Returns 1, 0 if the edge has been buried, or -1 if its stream is full and the
-- edge, which lives, may soon have read it.
--
-- Every entry carries the name of the one before it, so that the edge notices
-- if one is missing. That is so after the stream was cut because the edge did
-- not read it, and after Redis has lost its last entries. The name and the id of
-- the last entry are told beside the stream.
if redis.call('EXISTS', KEYS[3]) == 1 then
  return 0
end
local m = redis.call('HMGET', KEYS[2], 'put', 'got', 'last')
local before, got = tonumber(m[1] or '0'), tonumber(m[2] or '0')
local put = before + #ARGV[3]
if before > got and put - got > tonumber(ARGV[2]) then
  if ARGV[4] ~= '1' and redis.call('EXISTS', KEYS[4]) == 1 then
    return -1
  end
  redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)
  redis.call('HSET', KEYS[2], 'got', string.format('%.0f', before), 'last', 'cut')
  m[3] = 'cut'
end
local id = redis.call('XADD', KEYS[1], '*', 'p', m[3] or '', 'n', ARGV[1], 'b', ARGV[3])
redis.call('HSET', KEYS[2], 'put', string.format('%.0f', put), 'last', ARGV[1], 'id', id)
return 1
