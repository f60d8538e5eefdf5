/**
 * The scripts: what must be one step on a node, in Lua. Each is a few lines, is loaded on a node when a connection is made, and
 * is then called by its SHA-1.
 *
 * {@link ./layout.ts} says what the keys hold. Scripts get all of their keys as `KEYS`, and all of these are in one partition.
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
}

const scripts: Script[] = [];

/** All scripts. */
export function allScripts(): readonly Script[] {
  return scripts;
}

function script(keys: number, ...parts: string[]): Script {
  const source = parts.map((part) => part.trim()).join("\n");
  const made = { source, sha: createHash("sha1").update(source).digest("hex"), keys: String(keys) };
  scripts.push(made);
  return made;
}

/** `live`: what is stored under a key, or false if its time has come. `body`: the value of that. */
const READ = `
local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
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

/** `name`: adds a collection to the catalog if an entry of it was made that is the only one in this partition. */
const NAME = `
local function name(made, count, key, catalog, its)
  if made == 1 and redis.call(count, key) == 1 then redis.call('SADD', catalog, its) end
end
`;

/**
 * `put`: stores an entry, which expires after seconds unless they are ''. `after`: when it does. `delay`: notes the deadline of
 * an entry. KEYS: entries, catalog, deadlines, due.
 */
const PUT = `
local function after(seconds)
  return math.ceil(now() + seconds * 1000)
end
local function delay(key, suffix, deadline)
  redis.call('ZADD', KEYS[3], deadline, key)
  redis.call('ZADD', KEYS[4], 'LT', deadline, suffix)
end
local function put(key, value, its, suffix, seconds)
  if seconds ~= '' then
    local deadline = after(seconds)
    value = '\\193' .. struct.pack('>d', deadline) .. value
    delay(key, suffix, deadline)
  end
  name(redis.call('HSET', KEYS[1], key, value), 'HLEN', KEYS[1], KEYS[2], its)
end
`;

/** KEYS: entries, catalog. ARGV: key, value, name. */
export const SET: Script = script(
  2,
  NAME,
  `
name(redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]), 'HLEN', KEYS[1], KEYS[2], ARGV[3])
return 1
`,
);

/** KEYS: entries, catalog, deadlines, due. ARGV: key, value, name, suffix, seconds. */
export const SET_FOR: Script = script(
  4,
  READ,
  NAME,
  PUT,
  `
put(ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5])
return 1
`,
);

/** The same; nothing is done if the key is there. */
export const SET_NEW: Script = script(
  4,
  READ,
  NAME,
  PUT,
  `
if live(redis.call('HGET', KEYS[1], ARGV[1])) then return 0 end
put(ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5])
return 1
`,
);

/** KEYS: entries, catalog. ARGV: name, then keys and values in turn. Returns how many keys are new. */
export const SET_MANY: Script = script(
  2,
  READ,
  NAME,
  `
local added = 0
for i = 2, #ARGV, 2 do
  if not live(redis.call('HGET', KEYS[1], ARGV[i])) then added = added + 1 end
  name(redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]), 'HLEN', KEYS[1], KEYS[2], ARGV[1])
end
return added
`,
);

/**
 * `same`: whether two values are surely equal (true), surely not (false), or must be looked at by value (nil): only what
 * clients may encode in several ways.
 */
const SAME = `
local function plain(v)
  local first = v:byte()
  return first < 128 or first >= 160 and first < 192 or first >= 224 or first == 192 or first == 194 or first == 195
end
local function same(a, b)
  if a == b then return true end
  if plain(a) and plain(b) then return false end
end
`;

/** KEYS: entries, catalog. ARGV: key, expected, value, name. Returns the value if only the front can compare it. */
export const CAS: Script = script(
  2,
  READ,
  NAME,
  SAME,
  `
local old = live(redis.call('HGET', KEYS[1], ARGV[1]))
if old then
  local is = same(body(old), ARGV[2])
  if is == nil then return body(old) end
  if not is then return 0 end
elseif ARGV[2]:byte() ~= 192 then
  return 0
end
name(redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]), 'HLEN', KEYS[1], KEYS[2], ARGV[4])
return 1
`,
);

/** KEYS: entries. ARGV: key, expected. The same. */
export const DEL_IF: Script = script(
  1,
  READ,
  SAME,
  `
local old = live(redis.call('HGET', KEYS[1], ARGV[1]))
if not old then return 0 end
local is = same(body(old), ARGV[2])
if is == nil then return body(old) end
if is then return redis.call('HDEL', KEYS[1], ARGV[1]) end
return 0
`,
);

/** KEYS: entries. ARGV: key. Returns whether it was there. */
export const DEL: Script = script(
  1,
  READ,
  `
local old = live(redis.call('HGET', KEYS[1], ARGV[1]))
redis.call('HDEL', KEYS[1], ARGV[1])
return old and 1 or 0
`,
);

/** KEYS: entries. ARGV: key. Returns the value, or nil. */
export const POP: Script = script(
  1,
  READ,
  `
local old = live(redis.call('HGET', KEYS[1], ARGV[1]))
redis.call('HDEL', KEYS[1], ARGV[1])
return old and body(old)
`,
);

/** KEYS: entries. ARGV: key. Returns whether it is there. */
export const EXISTS: Script = script(
  1,
  READ,
  `
return live(redis.call('HGET', KEYS[1], ARGV[1])) and 1 or 0
`,
);

/**
 * KEYS: entries, catalog, deadlines, due. ARGV: key, number, name, suffix, seconds. Returns the sum, as MessagePack; or 0 if
 * the value is no number, 1 if no float is the sum, 2 if no integer is.
 *
 * Lua's numbers are doubles, so an integer of 64 bits is two of them: `hi` · 2³² + `lo`.
 */
export const INCR: Script = script(
  4,
  READ,
  NAME,
  PUT,
  `
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
local old = live(redis.call('HGET', KEYS[1], ARGV[1]))
local hi, lo = 0, 0
if old then hi, lo = read(body(old)) end
if not hi then return 0 end
local byHi, byLo = read(ARGV[2])
local sum
if lo and byLo then
  hi, lo = hi + byHi, lo + byLo
  if lo >= TWO32 then hi, lo = hi + 1, lo - TWO32 end
  if hi >= TWO32 or hi < -2147483648 then return 2 end
  sum = write(hi, lo)
else
  if lo then hi = hi * TWO32 + lo end
  if byLo then byHi = byHi * TWO32 + byLo end
  local float = hi + byHi
  if float ~= float or float == math.huge or float == -math.huge then return 1 end
  sum = '\\203' .. struct.pack('>d', float)
end
if not old then
  put(ARGV[1], sum, ARGV[3], ARGV[4], ARGV[5])
elseif old:byte() == 193 then
  redis.call('HSET', KEYS[1], ARGV[1], old:sub(1, 9) .. sum)
else
  redis.call('HSET', KEYS[1], ARGV[1], sum)
end
return sum
`,
);

/** KEYS: entries, catalog, deadlines, due. ARGV: key, suffix, seconds. Returns whether the key is there. */
export const EXPIRE: Script = script(
  4,
  READ,
  NAME,
  PUT,
  `
local old = live(redis.call('HGET', KEYS[1], ARGV[1]))
if not old then return 0 end
if tonumber(ARGV[3]) <= 0 then return redis.call('HDEL', KEYS[1], ARGV[1]) end
local deadline = after(ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], '\\193' .. struct.pack('>d', deadline) .. body(old))
delay(ARGV[1], ARGV[2], deadline)
return 1
`,
);

/** KEYS: entries. ARGV: key. Returns whether it had a deadline. */
export const PERSIST: Script = script(
  1,
  READ,
  `
local old = live(redis.call('HGET', KEYS[1], ARGV[1]))
if not old or old:byte() ~= 193 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], body(old))
return 1
`,
);

/**
 * `sweep`: deletes entries of a table whose time has come, as many as are asked for at most. Returns whether there may be more.
 */
const SWEEP = `
local function sweep(entries, deadlines, due, suffix, most)
  local time = now()
  local keys = redis.call('ZRANGEBYSCORE', deadlines, '-inf', time, 'LIMIT', 0, most)
  for _, key in ipairs(keys) do
    local v = redis.call('HGET', entries, key)
    if v and not live(v) then redis.call('HDEL', entries, key) end
    redis.call('ZREM', deadlines, key)
  end
  local next = redis.call('ZRANGE', deadlines, 0, 0, 'WITHSCORES')
  if next[2] then redis.call('ZADD', due, next[2], suffix) elseif #keys > 0 then redis.call('ZREM', due, suffix) end
  return #keys == tonumber(most)
end
`;

/** KEYS: entries, deadlines, due. ARGV: suffix, most. Returns the number of entries, or -1 if more must be swept first. */
export const SIZE: Script = script(
  3,
  READ,
  SWEEP,
  `
if redis.call('EXISTS', KEYS[2]) == 1 and sweep(KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2]) then return -1 end
return redis.call('HLEN', KEYS[1])
`,
);

/** KEYS: entries, deadlines. Returns the keys whose time has not come. */
export const TABLE_KEYS: Script = script(
  2,
  READ,
  `
local keys = redis.call('HKEYS', KEYS[1])
local hints = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now())
if #hints == 0 then return keys end
local gone = {}
for _, key in ipairs(hints) do
  local v = redis.call('HGET', KEYS[1], key)
  if v and not live(v) then gone[key] = true end
end
local found = {}
for _, key in ipairs(keys) do
  if not gone[key] then found[#found + 1] = key end
end
return found
`,
);

/** KEYS: entries, deadlines, due, catalog. ARGV: suffix, name. Returns whether there was such a table. */
export const DROP: Script = script(
  4,
  `
redis.call('UNLINK', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
return redis.call('SREM', KEYS[4], ARGV[2])
`,
);

/** KEYS: members, catalog. ARGV: name, members. Returns how many are new. */
export const PUSH: Script = script(
  2,
  `
local added = 0
for i = 2, #ARGV, 1000 do
  added = added + redis.call('SADD', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
if added > 0 and redis.call('SCARD', KEYS[1]) == added then redis.call('SADD', KEYS[2], ARGV[1]) end
return added
`,
);

/** KEYS: members, catalog. ARGV: name. Returns whether there was such a set. */
export const DROP_SET: Script = script(
  2,
  `
redis.call('UNLINK', KEYS[1])
return redis.call('SREM', KEYS[2], ARGV[1])
`,
);
