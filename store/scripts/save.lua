-- Writes some pages of a checkpoint ahead, or what is left of it, which
-- completes it. Returns 1, or the id of the checkpoint that Redis has if it is
-- not the one that this one follows; then nothing is written.
-- KEYS: own, meta, pages, sessions, live.
-- ARGV: epoch, owner, id of the checkpoint before, id of this one, room,
-- "ahead", "changes" or "whole", number of pages, number of sessions, and the
-- lists that are read below, each with its length before it.
local has = redis.call('HGET', KEYS[2], 'id') or ''
if has == ARGV[4] then return 1 end -- the same call came before
if has ~= ARGV[3] then return has end

local at = 9
local function each(command, key)
  local last = at + tonumber(ARGV[at])
  at = at + 1
  while at <= last do
    local to = math.min(at + 999, last) -- unpack has a limit
    redis.call(command, key, unpack(ARGV, at, to))
    at = to + 1
  end
end

-- A Redis that is full refuses a script's first write, if that needs memory,
-- and none after it. So the pages come first and deletions later.
each('HSET', KEYS[3])
if ARGV[6] == 'ahead' then return 1 end
if ARGV[6] == 'whole' then redis.call('DEL', KEYS[2], KEYS[4]) end
each('HSET', KEYS[2])
each('HSET', KEYS[4])
each('HDEL', KEYS[4])
each('HDEL', KEYS[3])

-- More pages than there should be are of a checkpoint before, or of one that
-- was never completed.
if redis.call('HLEN', KEYS[3]) ~= tonumber(ARGV[7]) then
  for _, field in ipairs(redis.call('HKEYS', KEYS[3])) do
    local page, version = string.match(field, '^(%d+)@(.*)$')
    if not page or redis.call('HGET', KEYS[2], 'p' .. page) ~= version then
      redis.call('HDEL', KEYS[3], field)
    end
  end
end
redis.call(ARGV[8] == '0' and 'SREM' or 'SADD', KEYS[5], ARGV[5])
return 1
