-- Makes a node the owner of a partition whose epoch is still the one it has seen.
-- KEYS: own, base, tries. ARGV: the epoch seen, incarnation, time in µs.
-- Returns the new epoch, the base's position and edges, the place up to which
-- the last owner has told everything if it released, and the tries; or nothing.
local seen = redis.call('HMGET', KEYS[1], 'epoch', 'released', 'cut')
local epoch = tonumber(seen[1] or '0')
if epoch ~= tonumber(ARGV[1]) then
  return false
end
local new = string.format('%.0f', math.max(epoch + 1, tonumber(ARGV[3])))
redis.call('HDEL', KEYS[1], 'cut', 'next') -- first, so that a full Redis takes what follows
redis.call('HSET', KEYS[1], 'epoch', new, 'owner', ARGV[2], 'released', '0', 'link', '0')
local base = redis.call('HMGET', KEYS[2], 'position', 'edges')
local cut = ''
if seen[2] == '1' then
  cut = seen[3] or ''
end
return {new, base[1] or '', base[2] or '', cut, redis.call('HGETALL', KEYS[3])}
