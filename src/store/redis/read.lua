#!lua flags=no-writes
-- Many reads at one instant, under one generation.
--
-- KEYS: pointer, positions, states; cells of accounts, cells of customers; quarantines of accounts, of
--       customers, marks of customers; hashes of the accounts on which customers owe.
-- ARGV: generation, number of accounts, number of customers, '1' where heartbeats are asked for, the start of
--       the key of an account's cell: which accounts a customer owes on is known here alone.
-- Returns the pointer alone where it names another generation, else: pointer, positions, heartbeats, cells,
-- quarantines (nothing at all where no subject has one), per customer the accounts, the cells of all those in
-- the same order.
local active = redis.call('GET', KEYS[1])
if active ~= ARGV[1] then
  return {active}
end
local accounts, customers = tonumber(ARGV[2]), tonumber(ARGV[3])
local subjects = accounts + customers
local marked = subjects + customers
local states, cells, quarantines, owing, owed = {}, {}, {}, {}, {}
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
  local names = {}
  for i = 1, customers do
    owing[i] = redis.call('HKEYS', KEYS[key + i - 1])
    for _, id in ipairs(owing[i]) do
      names[#names + 1] = ARGV[5] .. id
    end
  end
  -- One call for several customers; Lua's unpack fails near 8,000 values.
  for first = 1, #names, 1000 do
    for _, cell in ipairs(redis.call('MGET', unpack(names, first, math.min(first + 999, #names)))) do
      owed[#owed + 1] = cell
    end
  end
end
return {active, redis.call('HGETALL', KEYS[2]), states, cells, quarantines, owing, owed}
