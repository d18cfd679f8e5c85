#!lua flags=no-writes
-- Subjects of one or several generations at one instant, with the positions that they belong to, and entries that
-- are derived from subjects.
--
-- KEYS: per generation: positions; per generation: cells; per generation: quarantines, as many as cells; per
--       generation: hashes of the entries.
-- ARGV: number of generations, number of subjects; per entry: its field.
-- Returns: positions per generation; cells of all generations; quarantines likewise (nothing at all where no
-- subject has one); values of entries likewise.
local generations, subjects = tonumber(ARGV[1]), tonumber(ARGV[2])
local entries = #ARGV - 2
local positions, cells, quarantines, found = {}, {}, {}, {}
for i = 1, generations do
  positions[i] = redis.call('HGETALL', KEYS[i])
end
local count = generations * subjects
local key = generations + 1
if count > 0 then
  cells = redis.call('MGET', unpack(KEYS, key, key + count - 1))
  key = key + count
  -- Almost nothing is on hold: ask for all of it at once.
  if redis.call('EXISTS', unpack(KEYS, key, key + count - 1)) > 0 then
    for i = 1, count do
      quarantines[i] = redis.call('HVALS', KEYS[key + i - 1])
    end
  end
  key = key + count
end
for i = 0, generations * entries - 1 do
  found[i + 1] = redis.call('HGET', KEYS[key + i], ARGV[3 + i % entries])
end
return {positions, cells, quarantines, found}
