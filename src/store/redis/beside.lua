#!lua flags=no-writes
-- Subjects of one or several generations at one instant, with the positions that they belong to.
--
-- KEYS: per generation: positions; per generation: cells; per generation: quarantines, as many as cells.
-- ARGV: number of generations, number of subjects.
-- Returns: positions per generation; cells of all generations; quarantines likewise (nothing at all where no
-- subject has one).
local generations, subjects = tonumber(ARGV[1]), tonumber(ARGV[2])
local positions, cells, quarantines = {}, {}, {}
for i = 1, generations do
  positions[i] = redis.call('HGETALL', KEYS[i])
end
local count = generations * subjects
if count > 0 then
  local key = generations + 1
  cells = redis.call('MGET', unpack(KEYS, key, key + count - 1))
  key = key + count
  -- Almost nothing is on hold: ask for all of it at once.
  if redis.call('EXISTS', unpack(KEYS, key, key + count - 1)) > 0 then
    for i = 1, count do
      quarantines[i] = redis.call('HVALS', KEYS[key + i - 1])
    end
  end
end
return {positions, cells, quarantines}
