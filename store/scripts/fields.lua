-- Returns a cursor and the names of some fields of a hash.
-- KEYS: hash. ARGV: the cursor that came before, or 0. The last cursor is 0.
local reply = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', 200)
local names = { reply[1] }
for i = 1, #reply[2], 2 do
  names[#names + 1] = reply[2][i]
end
return names
