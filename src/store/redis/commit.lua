#!lua
-- One atomic step of one partition: all of it, or nothing but a refusal.
--
-- KEYS: positions, states; cells (those to be born first); guarded cells; for each pair of a customer and an
--       account (those that may be new first) the customer's dues; for each that may be new the account's marks;
--       likewise the customer's marks; hashes of marks.
-- ARGV: field of the partition, expected position, new position, heartbeat or '';
--       numbers of cells, of those to be born, of guarded cells, of pairs, of those that may be new, of hashes of
--       marks; values of cells; values of guarded cells; accounts of the pairs; their dues; per hash: number of
--       arguments, then fields and values; or that number below zero, then fields to remove.
-- Returns 0 written, 1 no position, 2 another token, 3 another checkpoint, 4 a guard.
--
-- Strings are compared for equality only: '<' follows the server's locale, and numbers are doubles.
--
-- Redis does not roll back: what a stopped script wrote stays, and is folded again from the old position. So
-- the order matters. A cell that is written is skipped by that fold, hence what follows from it (pairs and
-- their copied marks) is written before it. A mark holds records back, hence it is written after the cells;
-- the partition's index, which the next claim believes, is the last hash of marks; and the position is last
-- of all.

local held = redis.call('HGET', KEYS[1], ARGV[1])
if not held then
  return 1
end
if held ~= ARGV[2] then
  if string.sub(held, 1, 16) ~= string.sub(ARGV[2], 1, 16) then
    return 2
  end
  return 3
end

-- Lua's unpack fails near 8,000 values.
local CHUNK = 2000
-- Locals: a cell costs four look-ups of these, a due as many.
local call, keys, args = redis.call, KEYS, ARGV
local cells, born, guards = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local owing, opened, marks = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local key, arg = 3, 11

for first = key, key + born - 1, CHUNK do
  if redis.call('EXISTS', unpack(KEYS, first, math.min(first + CHUNK, key + born) - 1)) > 0 then
    return 4
  end
end
local cell_key, cell_arg = key, arg
key, arg = key + cells, arg + cells
for i = 0, guards - 1 do
  if (redis.call('GET', KEYS[key + i]) or '') ~= ARGV[arg + i] then
    return 4
  end
end
key, arg = key + guards, arg + guards

for i = 0, owing - 1 do
  call('HSET', keys[key + i], args[arg + i], args[arg + owing + i])
end
key = key + owing
-- Almost no account is on hold: ask for all of them at once.
for first = 0, opened - 1, CHUNK do
  local last = math.min(first + CHUNK, opened) - 1
  if redis.call('EXISTS', unpack(KEYS, key + first, key + last)) > 0 then
    for i = first, last do
      local held_back = redis.call('HGETALL', KEYS[key + i])
      for m = 1, #held_back, 2 do
        redis.call('HSET', KEYS[key + opened + i], ARGV[arg + i] .. '/' .. held_back[m], held_back[m + 1])
      end
    end
  end
end
key, arg = key + 2 * opened, arg + 2 * owing

for first = 0, cells - 1, CHUNK do
  local pairs_of_chunk, filled = {}, 0
  for i = first, math.min(first + CHUNK, cells) - 1 do
    pairs_of_chunk[filled + 1] = keys[cell_key + i]
    pairs_of_chunk[filled + 2] = args[cell_arg + i]
    filled = filled + 2
  end
  redis.call('MSET', unpack(pairs_of_chunk, 1, filled))
end

for i = 0, marks - 1 do
  local command, arguments = 'HSET', tonumber(ARGV[arg])
  if arguments < 0 then
    command, arguments = 'HDEL', -arguments
  end
  redis.call(command, KEYS[key + i], unpack(ARGV, arg + 1, arg + arguments))
  arg = arg + arguments + 1
end
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[4])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 0
