/**
 * State files, version 1: pymemstore's, so that either reads what the other wrote.
 *
 * One MessagePack map:
 *
 * ```text
 * {
 *   "version": 1,
 *   "store": { table: { key: value, … }, … },
 *   "sets":  { name: [member, …], … }
 * }
 * ```
 *
 * Keys, names and members are written in their canonical form, values as the bytes that a client sent.
 *
 * A file is written beside its target, synced and renamed over it: a crash leaves the old one whole. One that
 * is read becomes a store of its own, and is used only once all of it was understood.
 *
 * @module
 */

import { Key, MAX_KEY_DEPTH } from "../engine/key.ts";
import { type Snapshot, Store } from "../engine/store.ts";
import { head, latin1, skip, Writer } from "../wire/msgpack.ts";
import { turn } from "../wire/turn.ts";

/** The version that is written and read. */
const VERSION = 1;
/** Bytes that are gathered before they are written, between which other work of the process is done. */
const CHUNK = 1 << 18;

/** The bytes of a state file, piece by piece. A piece is good until the next is asked for. */
export function* encodeState({ tables, sets, entry }: Snapshot): Generator<Uint8Array> {
  const to = new Writer(CHUNK * 2);
  const full = function* () {
    if (to.length < CHUNK) return;
    yield to.written;
    to.length = 0;
  };
  to.mapHead(3);
  to.str("version");
  to.int(VERSION);
  to.str("store");
  to.mapHead(tables.length);
  for (const table of tables) {
    to.raw(table.name);
    to.mapHead(table.size);
    let cursor = 0;
    do {
      cursor = table.scan(cursor, (address) => {
        const { bytes, keyFrom, valueTo } = entry.look(address);
        to.copy(bytes, keyFrom, valueTo);
      });
      yield* full();
    } while (cursor !== 0);
  }
  to.str("sets");
  to.mapHead(sets.length);
  for (const set of sets) {
    to.raw(set.name);
    to.arrayHead(set.size);
    let cursor = 0;
    do {
      cursor = set.scan(cursor, (address) => {
        const { bytes, keyFrom, keyTo } = entry.look(address);
        to.copy(bytes, keyFrom, keyTo);
      });
      yield* full();
    } while (cursor !== 0);
  }
  yield to.written;
}

/**
 * Reads the bytes of a state file. Other work of the process goes on meanwhile.
 *
 * @throws {Error} that says what is wrong and at which byte.
 */
export async function decodeState(bytes: Uint8Array): Promise<Store> {
  const store = new Store();
  let at = 0;
  let rested = 0;
  const open = (type: "map" | "array", what: string): number => {
    const found = at < bytes.length ? head(bytes, at) : undefined;
    if (found?.type !== type) {
      throw new Error(`${what} must be ${type === "map" ? "a map" : "an array"} at byte ${at}`);
    }
    at = found.body;
    return found.length;
  };
  const key = (to: Key): Key => {
    const from = at;
    at = skip(bytes, at, MAX_KEY_DEPTH);
    return to.aim(bytes, from, at);
  };
  const name = new Key(), entry = new Key();
  const rest = async () => {
    if (at - rested < CHUNK) return;
    rested = at;
    await turn();
  };
  const seen = new Set<string>();

  for (let fields = open("map", "a state file"); fields > 0; fields--) {
    const began = at;
    const { from, to } = key(name);
    const field = latin1(name.bytes, from, to);
    if (seen.has(field)) throw new Error(`a field is there twice at byte ${began}`);
    seen.add(field);
    if (field === FIELD.version) {
      const value = at;
      key(name);
      if (name.to - name.from !== 1 || name.bytes[name.from] !== VERSION) {
        throw new Error(`version ${VERSION} is needed at byte ${value}`);
      }
    } else if (field === FIELD.store) {
      for (let tables = open("map", '"store"'); tables > 0; tables--) {
        const table = store.tables.make(key(name));
        for (let entries = open("map", "a table"); entries > 0; entries--) {
          key(entry);
          const from = at;
          at = skip(bytes, at);
          table.set(entry, bytes, from, at);
          await rest();
        }
      }
    } else if (field === FIELD.sets) {
      for (let sets = open("map", '"sets"'); sets > 0; sets--) {
        const set = store.sets.make(key(name));
        for (let members = open("array", "a set"); members > 0; members--) {
          set.set(key(entry), NO_BYTES, 0, 0);
          await rest();
        }
      }
    } else {
      throw new Error(`there is a field that is not known at byte ${began}`);
    }
  }
  if (!seen.has(FIELD.version)) throw new Error(`the map ends without a "version" at byte ${at}`);
  if (at !== bytes.length) throw new Error(`${bytes.length - at} bytes follow the state at byte ${at}`);
  return store;
}

const NO_BYTES = new Uint8Array(0);
const fieldKey = (name: string): string => {
  const to = new Writer(16);
  to.str(name);
  return latin1(to.bytes, 0, to.length);
};
const FIELD = { version: fieldKey("version"), store: fieldKey("store"), sets: fieldKey("sets") };

/** The files that are being written: of two stores to one file, the later would not always win. */
const underWay = new Set<string>();

/** Writes the state of this moment; changes made meanwhile are not in it. */
export async function storeFile(store: Store, path: string): Promise<void> {
  using state = store.snapshot();
  try {
    const target = await regularFile(path);
    if (underWay.has(target)) throw new Error("another store to it is under way");
    underWay.add(target);
    try {
      await replaceFile(target, encodeState(state));
    } finally {
      underWay.delete(target);
    }
  } catch (error) {
    throw new Error(`Cannot store to ${path}: ${error instanceof Error ? error.message : error}`);
  }
}

/** Reads a state file into a store of its own. */
export async function loadFile(path: string): Promise<Store> {
  try {
    return await decodeState(await Deno.readFile(await regularFile(path)));
  } catch (error) {
    throw new Error(`Cannot restore from ${path}: ${error instanceof Error ? error.message : error}`);
  }
}

/**
 * Where a path leads if links are followed. What is there may only be a regular file: a device is read for
 * ever, and one that is written would be replaced by a file.
 */
async function regularFile(path: string): Promise<string> {
  const real = await Deno.realPath(path).catch((error) => {
    if (error instanceof Deno.errors.NotFound) return path;
    throw error;
  });
  const found = await Deno.stat(real).catch(() => undefined);
  if (found && !found.isFile) throw new Error("it is no regular file");
  return real;
}

/** Writes a file beside its target, syncs it and renames it: the target is the old file or the new one. */
async function replaceFile(path: string, pieces: Iterable<Uint8Array>): Promise<void> {
  const beside = `${path}.${crypto.randomUUID().slice(0, 8)}.tmp`;
  try {
    const file = await Deno.open(beside, { write: true, createNew: true, mode: 0o600 });
    try {
      for (const piece of pieces) await writeAll(file, piece);
      await file.sync();
    } finally {
      file.close();
    }
    await Deno.rename(beside, path);
  } catch (error) {
    await Deno.remove(beside).catch(() => {});
    throw error;
  }
}

async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
}
