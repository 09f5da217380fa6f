-- Stands before every script that writes in the name of a partition's owner. Each
-- such write is a link of one chain: it must find the last link that the owner knows
-- Redis to have had, or a later one, and the last entry of the log that the owner has read.
-- KEYS[1]: own, the hash that says who owns the partition; KEYS[2]: meta, KEYS[3]: log,
-- KEYS[4]: base.
-- ARGV[1]: epoch, ARGV[2]: owner, ARGV[3]: the link that Redis must have, ARGV[4]: this
-- link, ARGV[5]: the entry that the owner has read. An empty ARGV[3] takes up the chain
-- again, whatever Redis has forgotten. An empty ARGV[4] only looks.
do
  local own = redis.call('HMGET', KEYS[1], 'epoch', 'owner', 'released', 'link')
  local held, mine = tonumber(own[1]) or -1, tonumber(ARGV[1])
  if held > mine or (held == mine and (own[2] ~= ARGV[2] or own[3] == '1')) then
    return redis.error_reply('FENCED the partition has another owner')
  end
  local link = held == mine and tonumber(own[4]) or 0
  if ARGV[3] ~= '' then
    -- What was read is at the end, or elsewhere in the log, or trimmed.
    local has = ARGV[5] == '' or redis.call('HGET', KEYS[2], 'last') == ARGV[5]
      or redis.call('HGET', KEYS[4], 'position') == ARGV[5]
      or #redis.call('XRANGE', KEYS[3], ARGV[5], ARGV[5]) == 1
    if held < mine or link < tonumber(ARGV[3]) or not has then
      return redis.error_reply('FORGOT Redis does not have what the owner wrote or read before')
    end
  end
  if ARGV[4] ~= '' then
    if link > tonumber(ARGV[4]) then
      return redis.error_reply('LATE the owner has written something later')
    end
    -- A Redis that is full refuses a script's first write if that needs memory. This
    -- one needs none; those that follow are what makes room.
    redis.call('HDEL', KEYS[1], '')
    if held < mine then
      redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'owner', ARGV[2], 'released', '0')
      redis.call('HDEL', KEYS[1], 'cut', 'next')
    end
    redis.call('HSET', KEYS[1], 'link', ARGV[4])
  end
end
