-- Puts what an owner tells an edge into the edge's stream.
-- KEYS: out, meta. ARGV: a name for this entry, the stream's bound in bytes, data, 1 if
-- there was patience enough, the bound while Redis is full.
-- Returns 1, 0 if the edge has been taken for dead, or -1 if its stream is full and the
-- edge may soon have read it.
--
-- A Redis that is full takes this, too, a little at a time: no log is trimmed before all
-- that came of it is told.
--
-- Every entry carries the name of the one before it, so that the edge notices
-- if one is missing. That is so after the stream was cut because the edge did
-- not read it, and after Redis has lost its last entries. The name and the id of
-- the last entry are told beside the stream.
local m = redis.call('HMGET', KEYS[2], 'put', 'got', 'last', 'gone')
if m[4] then
  return 0
end
local before, got = tonumber(m[1] or '0'), tonumber(m[2] or '0')
local put = before + #ARGV[3]
local function add()
  return redis.pcall('XADD', KEYS[1], '*', 'p', m[3] or '', 'n', ARGV[1], 'b', ARGV[3])
end
local bound, id = tonumber(ARGV[2]), nil
if before == got or put - got <= bound then
  id = add()
  if type(id) == 'table' and string.find(id.err, 'OOM ', 1, true) then
    bound = math.min(bound, tonumber(ARGV[5]))
    redis.call('HDEL', KEYS[2], '') -- needs no memory; after such a write Redis takes others
    id = nil
  end
end
if not id and before > got and put - got > bound then
  if ARGV[4] ~= '1' then
    return -1
  end
  redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)
  redis.call('HSET', KEYS[2], 'got', string.format('%.0f', before), 'last', 'cut')
  m[3] = 'cut'
end
id = id or add()
if type(id) == 'table' then
  return id
end
redis.call('HSET', KEYS[2], 'put', string.format('%.0f', put), 'last', ARGV[1], 'id', id)
return 1
