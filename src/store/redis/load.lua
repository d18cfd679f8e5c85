#!lua flags=no-writes
-- Cells beside the position that they belong to.
--
-- KEYS: positions, cells. ARGV: field of the partition.
local cells = {}
if #KEYS > 1 then
  cells = redis.call('MGET', unpack(KEYS, 2))
end
return {redis.call('HGET', KEYS[1], ARGV[1]), cells}
