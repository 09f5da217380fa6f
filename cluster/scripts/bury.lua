-- Takes a node for dead, for good, unless it has a lease and the death is not proved.
-- KEYS: lease, gone, out, meta. ARGV: 1 if it is proved, for how long it is remembered in ms.
-- Returns 1, or 0 if the node lives.
if ARGV[1] ~= '1' and redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
redis.call('SET', KEYS[2], '1', 'PX', ARGV[2])
redis.call('DEL', KEYS[1], KEYS[3], KEYS[4])
return 1
