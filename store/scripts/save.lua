-- Writes some pages of a checkpoint ahead, or what is left of it, which
-- completes it, or removes what no checkpoint has any more. Returns how many
-- fields the pages have then, or the id of the checkpoint that Redis has if it
-- is not the one that this one follows; then nothing is written.
-- KEYS: those of the fence, meta, pages, sessions, live.
-- ARGV: those of the fence, id of the checkpoint before, id of this one, room,
-- "ahead", "changes", "whole" or "remove", number of sessions, and the
-- lists that are read below, each with its length before it.
local has = redis.call('HGET', KEYS[5], 'id') or ''
local came = has == ARGV[7]
if not came and has ~= ARGV[6] then return has end

local at = 11
local function each(command, key)
  local last = at + tonumber(ARGV[at])
  at = at + 1
  while at <= last do
    local to = math.min(at + 999, last) -- unpack has a limit
    redis.call(command, key, unpack(ARGV, at, to))
    at = to + 1
  end
end

if ARGV[9] == 'remove' then
  each('HDEL', KEYS[6])
elseif not came then
  each('HSET', KEYS[6])
  if ARGV[9] ~= 'ahead' then
    if ARGV[9] == 'whole' then redis.call('DEL', KEYS[5], KEYS[7]) end
    each('HSET', KEYS[5])
    each('HSET', KEYS[7])
    each('HDEL', KEYS[7])
    each('HDEL', KEYS[6])
    redis.call(ARGV[10] == '0' and 'SREM' or 'SADD', KEYS[8], ARGV[8])
  end
end
return redis.call('HLEN', KEYS[6])
