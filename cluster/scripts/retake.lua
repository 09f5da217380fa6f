-- Takes up the chain again after Redis has forgotten something. New entries of the
-- log come after all that the owner knows. Fenced.
-- KEYS: own, meta, log, base. ARGV: those of the fence, the place up to which the owner
-- has read.
-- Returns where Redis thinks that the log begins: position, edges.
local placed = redis.pcall('XADD', KEYS[3], ARGV[6], 'p', '', 'b', '')
if type(placed) == 'string' then
  redis.call('XDEL', KEYS[3], placed)
  redis.call('HSET', KEYS[2], 'last', placed)
end
return redis.call('HMGET', KEYS[4], 'position', 'edges')
