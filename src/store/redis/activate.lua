#!lua
-- Sets the pointer of readers if it still is what the caller saw ('' for none).
--
-- KEYS: pointer. ARGV: expected, new. Returns 1 where it was set.
local held = redis.call('GET', KEYS[1])
if (held or '') ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
