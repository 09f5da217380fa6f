-- Stands before every script that writes to a partition. The script goes on
-- only in the name of the partition's owner.
-- KEYS[1]: the hash that says who owns the partition. ARGV[1]: epoch, ARGV[2]: owner.
do
  local own = redis.call('HMGET', KEYS[1], 'epoch', 'owner', 'released')
  local held, mine = tonumber(own[1]) or -1, tonumber(ARGV[1])
  if held > mine or (held == mine and (own[2] ~= ARGV[2] or own[3] == '1')) then
    return redis.error_reply('FENCED the partition has another owner')
  end
  if held < mine then
    -- Redis has lost the claim, which a replica that took over may not have had.
    redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'owner', ARGV[2], 'released', '0')
  end
end
