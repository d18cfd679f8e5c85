#!lua flags=no-writes
-- Positions and heartbeats of every generation that is fed, at one instant.
--
-- KEYS: pointer, list of generations; for each generation that the caller knows of: positions, heartbeats.
-- Returns the pointer, the list, and for each of those generations positions and heartbeats.
local reply = {redis.call('GET', KEYS[1]), redis.call('HGETALL', KEYS[2])}
for i = 3, #KEYS do
  reply[i] = redis.call('HGETALL', KEYS[i])
end
return reply
