#!lua
-- Puts a fresh token before the checkpoint: whoever held the partition is fenced from here on.
--
-- KEYS: positions, the partition's index of keys on hold. ARGV: field of the partition, token.
-- Returns the new position and the index, or nothing where there is no position.
local held = redis.call('HGET', KEYS[1], ARGV[1])
if not held then
  return false
end
local position = ARGV[2] .. string.sub(held, 17)
redis.call('HSET', KEYS[1], ARGV[1], position)
return {position, redis.call('HGETALL', KEYS[2])}
