-- Puts an entry of what an owner's node tells an edge into the edge's stream.
-- KEYS: out, meta. ARGV: the owner's node, the entry's number, 1 if it goes in though some
-- before it are missing, the stream's bound in bytes, data, 1 if there was patience enough,
-- the bound while Redis is full.
-- Returns 1 if it is there, perhaps since before; 0 if the edge has been taken for dead; -1
-- if the stream is full and the edge may soon have read it; or -2 less the last number that
-- is there, if some before it are missing.
--
-- A Redis that is full takes this, too, a little at a time: no log is trimmed before all
-- that came of it is told.
--
-- A stream that its edge does not read is cut. The next entry says so, for the edge cannot
-- know whose entries were in it.
local m = redis.call('HMGET', KEYS[2], 'put', 'got', 'gone', 'o:' .. ARGV[1])
if m[3] then
  return 0
end
local number, last = tonumber(ARGV[2]), tonumber(m[4] or '0')
if last >= number then
  return 1
end
if last + 1 < number and ARGV[3] ~= '1' then
  return -2 - last
end
local before, got = tonumber(m[1] or '0'), tonumber(m[2] or '0')
local put = before + #ARGV[5]
local cut = ''
local function add()
  return redis.pcall('XADD', KEYS[1], '*', 'o', ARGV[1], 'n', ARGV[2], 'c', cut, 'b', ARGV[5])
end
local bound, id = tonumber(ARGV[4]), nil
if before == got or put - got <= bound then
  id = add()
  if type(id) == 'table' and string.find(id.err, 'OOM ', 1, true) then
    bound = math.min(bound, tonumber(ARGV[7]))
    redis.call('HDEL', KEYS[2], '') -- needs no memory; after such a write Redis takes others
    id = nil
  end
end
if not id and before > got and put - got > bound then
  if ARGV[6] ~= '1' then
    return -1
  end
  redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)
  redis.call('HSET', KEYS[2], 'got', string.format('%.0f', before))
  cut = '1'
end
id = id or add()
if type(id) == 'table' then
  return id
end
redis.call('HSET', KEYS[2], 'put', string.format('%.0f', put), 'o:' .. ARGV[1], ARGV[2], 'id', id)
return 1
