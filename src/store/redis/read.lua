#!lua flags=no-writes
-- Many reads at one instant, under one generation.
--
-- KEYS: pointer, positions, states; cells of accounts, cells of customers; quarantines of accounts, of
--       customers, marks of customers; hashes of what customers owe.
-- ARGV: generation, number of accounts, number of customers, '1' where heartbeats are asked for.
-- Returns the pointer alone where it names another generation, else: pointer, positions, heartbeats, cells,
-- quarantines (nothing at all where no subject has one), per customer what is owed by account.
local active = redis.call('GET', KEYS[1])
if active ~= ARGV[1] then
  return {active}
end
local accounts, customers = tonumber(ARGV[2]), tonumber(ARGV[3])
local subjects = accounts + customers
local marked = subjects + customers
local states, cells, quarantines, owing = {}, {}, {}, {}
if ARGV[4] == '1' then
  states = redis.call('HGETALL', KEYS[3])
end
if subjects > 0 then
  local key = 4
  cells = redis.call('MGET', unpack(KEYS, key, key + subjects - 1))
  key = key + subjects
  -- Almost nothing is on hold: ask for all of it at once.
  if redis.call('EXISTS', unpack(KEYS, key, key + marked - 1)) > 0 then
    for i = 1, marked do
      quarantines[i] = redis.call('HVALS', KEYS[key + i - 1])
    end
  end
  key = key + marked
  for i = 1, customers do
    owing[i] = redis.call('HGETALL', KEYS[key + i - 1])
  end
end
return {active, redis.call('HGETALL', KEYS[2]), states, cells, quarantines, owing}
