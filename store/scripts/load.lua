-- Returns the fields and values of a room's checkpoint and of its sessions, and
-- the pages too if they are few.
-- KEYS: meta, pages, sessions. ARGV[1]: how many pages are few.
local pages = {}
if redis.call('HLEN', KEYS[2]) <= tonumber(ARGV[1]) then
  pages = redis.call('HGETALL', KEYS[2])
end
return { redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[3]), pages }
