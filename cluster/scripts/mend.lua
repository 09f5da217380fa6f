-- Puts a partition's log in order after Redis has lost the end of it: what the
-- owner knows is in its checkpoints, and new ids come after those it knows. Fenced.
-- KEYS: own, log, base, meta. ARGV: epoch, incarnation, the first id that stays,
-- position, edges.
redis.call('XTRIM', KEYS[2], 'MINID', '=', ARGV[3])
redis.call('HSET', KEYS[3], 'position', ARGV[4], 'edges', ARGV[5])
local placed = redis.pcall('XADD', KEYS[2], ARGV[4], 'p', '', 'b', '')
if type(placed) == 'string' then
  redis.call('XDEL', KEYS[2], placed)
  redis.call('HSET', KEYS[4], 'last', placed)
end
if redis.call('XLEN', KEYS[2]) == 0 then
  redis.call('HSET', KEYS[4], 'cut', redis.call('HGET', KEYS[4], 'put') or '0')
end
return 1
