-- Agrees with the other nodes on what all must have in common.
-- KEYS: cfg. ARGV: names and values, in turns.
-- Returns the names and values in which Redis differs, in turns. If there are
-- none, what Redis did not have yet is written.
local mine, other = {}, {}
for i = 1, #ARGV, 2 do
  mine[ARGV[i]] = ARGV[i + 1]
end
local have = redis.call('HGETALL', KEYS[1])
for i = 1, #have, 2 do
  if mine[have[i]] ~= have[i + 1] then
    other[#other + 1] = have[i]
    other[#other + 1] = have[i + 1]
  end
  mine[have[i]] = nil
end
if #other == 0 then
  for name, value in pairs(mine) do
    redis.call('HSET', KEYS[1], name, value)
  end
end
return other
