-- Cuts a partition's log below what the checkpoints have. Fenced.
-- KEYS: own, meta, log, base, tries. ARGV: those of the fence, the first id that
-- stays, position, edges, bytes that are cut off or -1 if that is not known, tries that are over...
redis.call('XTRIM', KEYS[3], 'MINID', '=', ARGV[6])
redis.call('HSET', KEYS[4], 'position', ARGV[7], 'edges', ARGV[8])
if ARGV[9] == '-1' or redis.call('XLEN', KEYS[3]) == 0 then
  local left = 0
  for _, entry in ipairs(redis.call('XRANGE', KEYS[3], '-', '+')) do
    left = left + #entry[2][4]
  end
  redis.call('HSET', KEYS[2], 'cut', string.format('%.0f', tonumber(redis.call('HGET', KEYS[2], 'put') or '0') - left))
else
  redis.call('HINCRBY', KEYS[2], 'cut', ARGV[9])
end
for i = 10, #ARGV do
  redis.call('HDEL', KEYS[5], ARGV[i])
end
return 1
