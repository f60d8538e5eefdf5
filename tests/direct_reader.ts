/**
 * A reader of the torture of direct reads: `direct_reader.ts ENDPOINT LEDGER NUMBER`. It ends with the code 3 if it reads
 * what it may not, and with 0 when the host ends.
 */

import { attach, MemStoreClient, MemStoreError } from "../mod.ts";
import {
  ABSENT,
  EPOCH,
  GROUPS,
  kindOf,
  Ledger,
  MEMBERS,
  pick,
  PRESENT,
  READS,
  SETS,
  SINGLES,
  SLOTS,
  STEADY,
  versionOf,
  WRITERS,
} from "./direct_ledger.ts";

const [endpoint, place, argument] = Deno.args;
const number = Number(argument);
const ledger = Ledger.open(place);
const store = number % 4 === 3 ? new MemStoreClient(endpoint) : await attach(endpoint);
const below = (n: number) => Math.floor(Math.random() * n);

const mayBeAbsent = (version: number) => kindOf(version) !== PRESENT;

/** A read that may not be. */
class Violation extends Error {}

/** The last epoch in which what a restore has brought was seen. */
let restored = -1;

/**
 * Reads a slot and compares it with the ledger.
 *
 * @param read Returns the version that was read; for a set, `ABSENT` or `PRESENT` alone.
 */
async function check(
  what: string,
  slot: number,
  read: () => Promise<number>,
  versions = true,
): Promise<void> {
  const epoch = ledger.load(EPOCH), acked = Atomics.load(ledger.acked, slot);
  const version = await read();
  const began = Atomics.load(ledger.began, slot), prev = Atomics.load(ledger.prev, slot);
  const steady = began === Atomics.load(ledger.began, slot);
  const saved = Atomics.load(ledger.saved, slot);
  if (ledger.load(EPOCH) !== epoch) return;
  const isStateOf = (state: number) => {
    if (version === ABSENT) return mayBeAbsent(state);
    return versions ? version === state : kindOf(state) !== ABSENT;
  };
  const fail = (why: string): never => {
    const all = `acknowledged ${acked}, before ${prev}, begun ${began}, saved ${saved}, epoch ${epoch}`;
    throw new Violation(`${what}: read version ${version}, ${why}: ${all}`);
  };
  if (epoch % 2 === 1) {
    const isOld = isStateOf(acked), isNew = isStateOf(saved);
    if (!isOld && !isNew) fail("which is neither that before the restore nor that after it");
    if (isOld && !isNew && restored === epoch) fail("though a restore was seen");
    if (isNew && !isOld) restored = epoch;
    return;
  }
  if (
    acked === began ? !isStateOf(acked) : steady && prev === acked && !isStateOf(acked) && !isStateOf(began)
  ) {
    fail("which is none of those that were possible");
  }
  if (versions && version !== ABSENT && (version < acked || version > began)) {
    fail("which is too old or too new");
  }
}

async function checkValue(table: string, key: unknown, slot: number): Promise<void> {
  await check(`${table} ${key}`, slot, async () => {
    const value = await store.get(table, key);
    return whole(`${table} ${key}`, value, slot, key);
  });
}

/** The version of a value, which must be whole. */
function whole(what: string, value: unknown, slot: number, key: unknown): number {
  try {
    return versionOf(value, slot, key);
  } catch (error) {
    throw new Violation(`${what}: ${error instanceof Error ? error.message : error}`);
  }
}

async function checkGroup(table: string, i: number, slot: number): Promise<void> {
  const keys = MEMBERS.map((member) => `${i}.${member}`);
  await check(`${table} ${i}`, slot, async () => {
    const values = await store.getMany(table, keys);
    const found = values.map((value, j) => whole(`${table} ${keys[j]}`, value, slot, keys[j]));
    if (found.some((version) => version !== found[0])) {
      throw new Violation(`${table} ${i}: read a part: ${found}`);
    }
    return found[0];
  });
}

async function checkScan(table: string, base: number): Promise<void> {
  const epoch = ledger.load(EPOCH), seen = new Set<unknown>();
  let cursor = 0;
  do {
    const [next, entries] = await store.scan(table, cursor, 1 + below(STEADY));
    for (const [key, value] of entries) {
      whole(`${table} ${key}`, value, base + SINGLES + Number(key), key);
      if (seen.has(key)) throw new Violation(`${table} ${key}: scanned twice`);
      seen.add(key);
    }
    cursor = next;
  } while (cursor !== 0);
  if (ledger.load(EPOCH) === epoch && seen.size !== STEADY) {
    throw new Violation(`${table}: scanned ${seen.size} of ${STEADY} entries`);
  }
}

async function step(): Promise<void> {
  const writer = below(WRITERS), base = writer * SLOTS, what = below(100);
  if (what < 35) {
    const key = pick(SINGLES);
    await checkValue(`single${writer}`, key, base + key);
  } else if (what < 65) {
    const key = pick(STEADY);
    await checkValue(`steady${writer}`, key, base + SINGLES + key);
  } else if (what < 80) {
    const i = pick(GROUPS);
    await checkGroup(`group${writer}`, i, base + SINGLES + STEADY + i);
  } else if (what < 90) {
    const i = pick(SETS), name = `set${writer}.${i}`;
    await check(name, base + SINGLES + STEADY + GROUPS + i, async () => {
      return await store.inSet(name, pick(MEMBERS.length)) ? PRESENT : ABSENT;
    }, false);
  } else if (what < 98) {
    const size = await store.size(`steady${writer}`);
    if (size !== STEADY) throw new Violation(`steady${writer} has the size ${size}`);
    const singles = await store.size(`single${writer}`);
    if (singles > SINGLES) throw new Violation(`single${writer} has the size ${singles}`);
  } else {
    await checkScan(`steady${writer}`, base);
  }
}

let reads = 0;
try {
  // (A process that reads directly gives other work its turn by itself.)
  for (;; reads++) {
    await step();
    Atomics.add(ledger.words, READS + number, 1);
  }
} catch (error) {
  const ended = error instanceof MemStoreError && ["DISCONNECTED", "UNAVAILABLE"].includes(error.code);
  if (!ended) console.error(error instanceof Violation ? error.message : error);
  else console.log(JSON.stringify({ reads, code: error.code }));
  Deno.exit(ended ? 0 : error instanceof Violation ? 3 : 4);
}
