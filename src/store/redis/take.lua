#!lua
-- Counts one of a limited number of reads, if there is one left.
--
-- KEYS: the count. ARGV: how many there are, seconds until the count goes, '1' to count and '0' to ask.
-- Returns 1 where one was left.
local taken = tonumber(redis.call('GET', KEYS[1]) or '0')
if taken >= tonumber(ARGV[1]) then
  return 0
end
if ARGV[3] == '1' and redis.call('INCR', KEYS[1]) == 1 then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
return 1
