#!lua
-- A step of an import: done as a whole, if the import still is this one's.
--
-- KEYS: the mark of the import; per command the key that it is about.
-- ARGV: what the mark must be, for how many seconds it holds from now on; per command: its name, the number of its
--       further arguments, these.
-- Returns 1 done, 0 another's.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
local arg = 3
for i = 2, #KEYS do
  local count = tonumber(ARGV[arg + 1])
  redis.call(ARGV[arg], KEYS[i], unpack(ARGV, arg + 2, arg + 1 + count))
  arg = arg + 2 + count
end
return 1
