-- Refuses what would cut off or give up a log whose end Redis has lost: the
-- owner has read more than there is, and must write it again first.
local function behind(last, position)
  local ams, aseq = string.match(last or '0-0', '(%d+)-(%d+)')
  local bms, bseq = string.match(position, '(%d+)-(%d+)')
  ams, aseq, bms, bseq = tonumber(ams), tonumber(aseq), tonumber(bms), tonumber(bseq)
  return ams < bms or ams == bms and aseq < bseq
end

