/**
 * The scripts: what must be one step on a node, in Lua. They are loaded on a node when a connection is made, and then called by
 * their SHA-1.
 *
 * An **operation** is what one command does to keys of one partition. Each is a Lua function of `K`, the keys, and `A`, the
 * other arguments. A script of its own runs one; the script {@linkcode BATCH} runs several, and rolls back what they have done
 * if one of them fails. So that it can, operations write through `store` and `remove`, which then keep a log.
 *
 * {@link ./layout.ts} says what the keys hold. `K` of an operation on a table is always: entries, catalog, deadlines, due.
 *
 * The file is long and holds one idea: all that is written in Lua.
 *
 * @module
 */

import { createHash } from "node:crypto";

/** A script that nodes have. */
export interface Script {
  readonly sha: string;
  readonly source: string;
  /** How many of its arguments are keys, as Redis wants it. */
  readonly keys: string;
  /** The name of its operation, if it may be in a batch. */
  readonly operation?: string;
}

const scripts: Script[] = [];

/** All scripts. */
export function allScripts(): readonly Script[] {
  return scripts;
}

/** `live`: what is stored, or false if its time has come. `body`: the value of that. `after`: a time in some seconds. */
const TIME = `
local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local function after(seconds)
  return seconds ~= '' and math.ceil(now() + seconds * 1000) or nil
end
local function live(v)
  if v and v:byte() == 193 and struct.unpack('>d', v, 2) <= now() then return false end
  return v
end
local function body(v)
  if v:byte() == 193 then return v:sub(10) end
  return v
end
`;

/**
 * `store`: sets an entry, with a deadline or without, whatever it had before. `remove`: deletes one. `name`: adds a collection to
 * the catalog if an entry was made that is its only one in this partition.
 */
const WRITE = `
local log
local function name(made, count, K, suffix)
  if made == 0 or redis.call(count, K[1]) ~= made then return end
  if redis.call('SADD', K[2], suffix) == 1 and log then log[#log + 1] = { 'SREM', K[2], suffix } end
end
local function delay(K, key, deadline, suffix)
  redis.call('ZADD', K[3], deadline, key)
  redis.call('ZADD', K[4], 'LT', deadline, suffix)
end
local function note(K, key)
  if log then log[#log + 1] = { 'entry', K, key, redis.call('HGET', K[1], key) } end
end
local function store(K, key, value, suffix, deadline)
  note(K, key)
  if deadline then value = '\\193' .. struct.pack('>d', deadline) .. value end
  local made = redis.call('HSET', K[1], key, value)
  if deadline then
    delay(K, key, deadline, suffix)
  elseif made == 0 then
    redis.call('ZREM', K[3], key)
  end
  name(made, 'HLEN', K, suffix)
end
local function remove(K, key)
  note(K, key)
  if redis.call('HDEL', K[1], key) == 0 then return 0 end
  redis.call('ZREM', K[3], key)
  return 1
end
`;

/**
 * `same`: whether two values are surely equal (true), surely not (false), or must be compared by the front (nil): only what
 * can be encoded in several ways. `unless` is a value that the front has found to be another one.
 */
const SAME = `
local function plain(v)
  local first = v:byte()
  return first < 128 or first >= 160 and first < 192 or first >= 224 or first == 192 or first == 194 or first == 195
end
local function same(a, b, unless)
  if a == b then return true end
  if a == unless or plain(a) and plain(b) then return false end
end
`;

/** Numbers of MessagePack: a float is one double; an integer is two, since one has 53 bits: \`hi\` · 2³² + \`lo\`. */
const NUMBER = `
local TWO32 = 4294967296
local function read(v)
  local h = v:byte()
  if h < 128 then return 0, h end
  if h >= 224 then return -1, TWO32 + h - 256 end
  if h == 202 then return struct.unpack('>f', v, 2), nil end
  if h == 203 then return struct.unpack('>d', v, 2), nil end
  if h == 204 then return 0, v:byte(2) end
  if h == 205 then return 0, struct.unpack('>I2', v, 2) end
  if h == 206 then return 0, struct.unpack('>I4', v, 2) end
  if h == 207 then return struct.unpack('>I4', v, 2), struct.unpack('>I4', v, 6) end
  if h == 211 then return struct.unpack('>i4', v, 2), struct.unpack('>I4', v, 6) end
  local n
  if h == 208 then n = struct.unpack('>i1', v, 2) end
  if h == 209 then n = struct.unpack('>i2', v, 2) end
  if h == 210 then n = struct.unpack('>i4', v, 2) end
  if not n then return end
  if n < 0 then return -1, TWO32 + n end
  return 0, n
end
local function write(hi, lo)
  if hi == 0 then
    if lo < 128 then return string.char(lo) end
    if lo < 256 then return '\\204' .. string.char(lo) end
    if lo < 65536 then return '\\205' .. struct.pack('>I2', lo) end
    return '\\206' .. struct.pack('>I4', lo)
  end
  if hi > 0 then return '\\207' .. struct.pack('>I4I4', hi, lo) end
  if hi == -1 then
    local n = lo - TWO32
    if n >= -32 then return string.char(256 + n) end
    if n >= -128 then return '\\208' .. struct.pack('>i1', n) end
    if n >= -32768 then return '\\209' .. struct.pack('>i2', n) end
    if n >= -2147483648 then return '\\210' .. struct.pack('>i4', n) end
  end
  return '\\211' .. struct.pack('>i4I4', hi, lo)
end
`;

const operations: [name: string, body: string][] = [];

function make(keys: number, source: string, operation?: string): Script {
  const sha = createHash("sha1").update(source).digest("hex");
  const script = { source, sha, keys: String(keys), operation };
  scripts.push(script);
  return script;
}

/** A script that runs one operation, which returns its result, and true if it failed. */
function operation(name: string, keys: number, parts: string[], body: string): Script {
  operations.push([name, body]);
  const run = `local function run(K, A)${body}end\nlocal result = run(KEYS, ARGV)\nreturn result`;
  return make(keys, parts.join("") + run, name);
}

/** A: key, value, suffix. (The script of its own does what `store` does, in fewer steps: it is the one that is run most.) */
export const SET: Script = make(
  4,
  `
local made = redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if made == 0 then
  redis.call('ZREM', KEYS[3], ARGV[1])
elseif redis.call('HLEN', KEYS[1]) == 1 then
  redis.call('SADD', KEYS[2], ARGV[3])
end
return 1
`,
  "set",
);
operations.push(["set", "\n  store(K, A[1], A[2], A[3])\n  return 1\n"]);

/** A: key, value, suffix, seconds (or none). */
export const SET_FOR: Script = operation(
  "set_for",
  4,
  [TIME, WRITE],
  `
  store(K, A[1], A[2], A[3], after(A[4]))
  return 1
`,
);

/** The same; nothing is done if the key is there. */
export const SET_NEW: Script = operation(
  "set_new",
  4,
  [TIME, WRITE],
  `
  if live(redis.call('HGET', K[1], A[1])) then return 0 end
  store(K, A[1], A[2], A[3], after(A[4]))
  return 1
`,
);

/** A: suffix, then keys and values in turn. Returns how many keys are new. */
export const SET_MANY: Script = operation(
  "set_many",
  4,
  [TIME, WRITE],
  `
  local added = 0
  for i = 2, #A, 2 do
    if not live(redis.call('HGET', K[1], A[i])) then added = added + 1 end
    store(K, A[i], A[i + 1], A[1])
  end
  return added
`,
);

/** A: key, expected, value, suffix, unless. Returns the value that is there if only the front can compare it. */
export const CAS: Script = operation(
  "cas",
  4,
  [TIME, WRITE, SAME],
  `
  local old = live(redis.call('HGET', K[1], A[1]))
  if old then
    local is = same(body(old), A[2], A[5])
    if is == nil then return body(old), true end
    if not is then return 0 end
  elseif A[2]:byte() ~= 192 then
    return 0
  end
  store(K, A[1], A[3], A[4])
  return 1
`,
);

/** A: key, expected, unless. The same. */
export const DEL_IF: Script = operation(
  "del_if",
  4,
  [TIME, WRITE, SAME],
  `
  local old = live(redis.call('HGET', K[1], A[1]))
  if not old then return 0 end
  local is = same(body(old), A[2], A[3])
  if is == nil then return body(old), true end
  if is then return remove(K, A[1]) end
  return 0
`,
);

/** A: key. Returns whether it was there. */
export const DEL: Script = operation(
  "del",
  4,
  [TIME, WRITE],
  `
  local old = live(redis.call('HGET', K[1], A[1]))
  remove(K, A[1])
  return old and 1 or 0
`,
);

/** A: key. Returns the value, or nil. */
export const POP: Script = operation(
  "pop",
  4,
  [TIME, WRITE],
  `
  local old = live(redis.call('HGET', K[1], A[1]))
  remove(K, A[1])
  return old and body(old)
`,
);

/** A: key. Returns whether it is there. */
export const EXISTS: Script = operation(
  "exists",
  1,
  [TIME],
  `
  return live(redis.call('HGET', K[1], A[1])) and 1 or 0
`,
);

/**
 * A: key, number, suffix, seconds. Returns the sum; or 0 if the value is no number, 1 if no float is the sum, 2 if no integer of
 * 64 bits is.
 */
export const INCR: Script = operation(
  "incr",
  4,
  [TIME, WRITE, NUMBER],
  `
  local old = live(redis.call('HGET', K[1], A[1]))
  local hi, lo = 0, 0
  if old then hi, lo = read(body(old)) end
  if not hi then return 0, true end
  local byHi, byLo = read(A[2])
  local sum
  if lo and byLo then
    hi, lo = hi + byHi, lo + byLo
    if lo >= TWO32 then hi, lo = hi + 1, lo - TWO32 end
    if hi >= TWO32 or hi < -2147483648 then return 2, true end
    sum = write(hi, lo)
  else
    if lo then hi = hi * TWO32 + lo end
    if byLo then byHi = byHi * TWO32 + byLo end
    local float = hi + byHi
    if float ~= float or float == math.huge or float == -math.huge then return 1, true end
    sum = '\\203' .. struct.pack('>d', float)
  end
  local deadline
  if not old then deadline = after(A[4]) elseif old:byte() == 193 then deadline = struct.unpack('>d', old, 2) end
  store(K, A[1], sum, A[3], deadline)
  return sum
`,
);

/** A: key, suffix, seconds. Returns whether the key is there. */
export const EXPIRE: Script = operation(
  "expire",
  4,
  [TIME, WRITE],
  `
  local old = live(redis.call('HGET', K[1], A[1]))
  if not old then return 0 end
  if tonumber(A[3]) <= 0 then return remove(K, A[1]) end
  store(K, A[1], body(old), A[2], after(A[3]))
  return 1
`,
);

/** A: key, suffix. Returns whether it had a deadline. */
export const PERSIST: Script = operation(
  "persist",
  4,
  [TIME, WRITE],
  `
  local old = live(redis.call('HGET', K[1], A[1]))
  if not old or old:byte() ~= 193 then return 0 end
  store(K, A[1], body(old), A[2])
  return 1
`,
);

/** K: members, catalog. A: suffix, members. Returns how many are new. */
export const PUSH: Script = operation(
  "push",
  2,
  [WRITE],
  `
  local added = 0
  for i = 2, #A do
    local new = redis.call('SADD', K[1], A[i])
    if new == 1 and log then log[#log + 1] = { 'SREM', K[1], A[i] } end
    added = added + new
  end
  name(added, 'SCARD', K, A[1])
  return added
`,
);

/** K: members, catalog. A: member. Returns whether it was one. */
export const PULL: Script = operation(
  "pull",
  2,
  [WRITE],
  `
  local pulled = redis.call('SREM', K[1], A[1])
  if pulled == 1 and log then log[#log + 1] = { 'SADD', K[1], A[1] } end
  return pulled
`,
);

/**
 * KEYS: those of the operations, one after another. ARGV: of each operation the name, how many keys and how many other arguments
 * it has, and these. Returns 0 and the results; or, if one failed, its number from 1 on and its result, and nothing was done.
 */
export const BATCH: Script = make(
  0,
  [
    TIME,
    WRITE,
    SAME,
    NUMBER,
    "local ops = {}\n",
    ...operations.map(([name, body]) => `ops.${name} = function(K, A)${body}end\n`),
    `
ops.call = function(K, A)
  return redis.call(A[1], K[1], unpack(A, 2))
end
local function rollback()
  for i = #log, 1, -1 do
    local what, K, key, old = unpack(log[i], 1, 4)
    if what ~= 'entry' then
      redis.call(what, K, key)
    elseif not old then
      redis.call('HDEL', K[1], key)
      redis.call('ZREM', K[3], key)
    else
      redis.call('HSET', K[1], key, old)
      if old:byte() == 193 then
        redis.call('ZADD', K[3], struct.unpack('>d', old, 2), key)
      else
        redis.call('ZREM', K[3], key)
      end
    end
  end
end
local function slice(from, first, count)
  local found = {}
  for i = 1, count do found[i] = from[first + i - 1] end
  return found
end
log = {}
local results, k, a = {}, 1, 1
while a <= #ARGV do
  local keys, count = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
  local ok, result, failed = pcall(ops[ARGV[a]], slice(KEYS, k, keys), slice(ARGV, a + 3, count))
  if failed or not ok then rollback() end
  if not ok then return type(result) == 'table' and result or redis.error_reply('ERR ' .. tostring(result)) end
  results[#results + 1] = result or false
  if failed then return { #results, result } end
  k, a = k + keys, a + 3 + count
end
return { 0, results }
`,
  ].join(""),
);

/** KEYS: entries, deadlines. Returns the number of entries whose time has not come. */
export const SIZE: Script = make(
  2,
  TIME + `
return redis.call('HLEN', KEYS[1]) - redis.call('ZCOUNT', KEYS[2], '-inf', now())
`,
);

/** KEYS: entries, deadlines. Returns the keys whose time has not come. */
export const TABLE_KEYS: Script = make(
  2,
  TIME + `
local keys = redis.call('HKEYS', KEYS[1])
local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now())
if #gone == 0 then return keys end
local is, found = {}, {}
for _, key in ipairs(gone) do is[key] = true end
for _, key in ipairs(keys) do
  if not is[key] then found[#found + 1] = key end
end
return found
`,
);

/** KEYS: entries, catalog, deadlines, due. ARGV: suffix. Returns whether there was such a table. */
export const DROP: Script = make(
  4,
  `
redis.call('UNLINK', KEYS[1], KEYS[3])
redis.call('ZREM', KEYS[4], ARGV[1])
return redis.call('SREM', KEYS[2], ARGV[1])
`,
);

/** KEYS: members, catalog. Deletes the members. */
export const CLEAR_SET: Script = make(2, "return redis.call('UNLINK', KEYS[1])");

/** KEYS: members, catalog. ARGV: suffix. Returns whether there was such a set. */
export const DROP_SET: Script = make(
  2,
  `
redis.call('UNLINK', KEYS[1])
return redis.call('SREM', KEYS[2], ARGV[1])
`,
);

/**
 * KEYS: entries, catalog, deadlines, due. ARGV: suffix, a number. Deletes as many entries whose time has come, at most. Returns
 * how many these were.
 */
export const SWEEP: Script = make(
  4,
  TIME + `
local keys = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now(), 'LIMIT', 0, ARGV[2])
if #keys > 0 then
  redis.call('HDEL', KEYS[1], unpack(keys))
  redis.call('ZREM', KEYS[3], unpack(keys))
end
local first = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
if first[2] then redis.call('ZADD', KEYS[4], first[2], ARGV[1]) else redis.call('ZREM', KEYS[4], ARGV[1]) end
return #keys
`,
);

/** KEYS: a lease. ARGV: who wants it, for how many milliseconds. Returns whether he has it. */
export const LEASE: Script = make(
  1,
  `
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
`,
);

/**
 * KEYS: a catalog. ARGV: what the keys of the partition begin with, \`t\` or \`s\`, a cursor. Returns the next cursor, and of some
 * collections together the entries whose time has not come, and those that have a deadline.
 */
export const COUNT: Script = make(
  1,
  TIME + `
local page = redis.call('SSCAN', KEYS[1], ARGV[3], 'COUNT', 256)
local entries, expiring = 0, 0
for _, suffix in ipairs(page[2]) do
  if ARGV[2] == 's' then
    entries = entries + redis.call('SCARD', ARGV[1] .. 's' .. suffix)
  else
    local deadlines = ARGV[1] .. 'x' .. suffix
    local gone = redis.call('ZCOUNT', deadlines, '-inf', now())
    entries = entries + redis.call('HLEN', ARGV[1] .. 't' .. suffix) - gone
    expiring = expiring + redis.call('ZCARD', deadlines) - gone
  end
end
return { page[1], entries, expiring }
`,
);

/** KEYS: entries, catalog, deadlines, due. ARGV: suffix, then keys and deadlines in turn. Returns how many of the keys are there. */
export const DELAY: Script = make(
  4,
  TIME + WRITE + `
local found = 0
for i = 2, #ARGV, 2 do
  local old = redis.call('HGET', KEYS[1], ARGV[i])
  if old then
    store(KEYS, ARGV[i], body(old), ARGV[1], tonumber(ARGV[i + 1]))
    found = found + 1
  end
end
return found
`,
);

/** `clear`: deletes all data of a partition, whose keys begin with a base. */
const CLEAR_ALL = `
local function clear(base)
  for _, suffix in ipairs(redis.call('SMEMBERS', base .. 'tables')) do
    redis.call('UNLINK', base .. 't' .. suffix, base .. 'x' .. suffix)
  end
  for _, suffix in ipairs(redis.call('SMEMBERS', base .. 'sets')) do
    redis.call('UNLINK', base .. 's' .. suffix)
  end
  redis.call('UNLINK', base .. 'tables', base .. 'sets', base .. 'due')
end
`;

/** KEYS: a catalog. ARGV: what the keys of the partition begin with. Deletes all data of a partition. */
export const CLEAR: Script = make(1, CLEAR_ALL + "clear(ARGV[1])\n");

/** KEYS: a catalog. ARGV: what the keys of the partition begin with, and those of the data that takes its place. */
export const REPLACE: Script = make(
  1,
  CLEAR_ALL + `
local base, next = ARGV[1], ARGV[2]
clear(base)
local function move(key)
  if redis.call('EXISTS', next .. key) == 1 then redis.call('RENAME', next .. key, base .. key) end
end
for _, suffix in ipairs(redis.call('SMEMBERS', next .. 'tables')) do
  move('t' .. suffix)
  move('x' .. suffix)
end
for _, suffix in ipairs(redis.call('SMEMBERS', next .. 'sets')) do move('s' .. suffix) end
move('tables')
move('sets')
move('due')
`,
);
