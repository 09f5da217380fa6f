-- Notes how often an item of the log has broken the engine; 0 is that it has been
-- applied after all. Fenced.
-- KEYS: own, meta, log, base, tries. ARGV: those of the fence, place, how often.
if ARGV[7] == '0' then
  redis.call('HDEL', KEYS[5], ARGV[6])
else
  redis.call('HSET', KEYS[5], ARGV[6], ARGV[7])
end
return 1
