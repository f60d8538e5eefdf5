/**
 * States from Redis, and back to it.
 *
 * A state that is stored is not of one moment: tables are read one after another, partition by partition, while clients change
 * them. One that is restored is put beside the data that is there, under keys of its own, and takes its place when all of it has
 * been read and is valid. So until then Redis needs memory for both.
 *
 * In a state the number of a table's entries comes before the entries: they wait in a {@linkcode Spool} until it is known.
 *
 * @module
 */

import { crc32 } from "node:zlib";
import { deadlineOf, valueOf } from "../engine/redis/layout.ts";
import type { Database } from "../engine/redis/database.ts";
import { Loading } from "../engine/redis/loading.ts";
import { entriesIn, keysIn, namesOf } from "../engine/redis/walk.ts";
import { Writer } from "../msgpack/msgpack.ts";
import { type Progress, readState, VERSION } from "./format.ts";
import { type EncodedState, type Log, Transfers } from "./persistence.ts";
import type { PathBounds } from "./file.ts";
import type { S3Options } from "./s3.ts";
import { Spool } from "./spool.ts";

/** Stores and restores the data in Redis. */
export class RedisTransfers extends Transfers {
  readonly #database: () => Database;

  /** @param database Called when it is open. */
  constructor(database: () => Database, bounds: PathBounds, s3: S3Options, log: Log) {
    super(bounds, s3, log);
    this.#database = database;
  }

  protected override encode(): EncodedState {
    const steps = { all: Infinity, done: 0 };
    return {
      pieces: (progress) => encode(this.#database(), progress, steps),
      done: () => steps.done / steps.all,
      [Symbol.dispose]() {},
    };
  }

  protected override async replace(pieces: AsyncIterable<Uint8Array>, progress: Progress): Promise<void> {
    await using loading = await Loading.begin(this.#database());
    await readState(pieces, loading, progress);
    await loading.commit();
  }
}

/** The bytes of a state, piece by piece. */
async function* encode(
  database: Database,
  progress: Progress,
  steps: { all: number; done: number },
): AsyncGenerator<Uint8Array> {
  const to = new Writer(1 << 10);
  let crc = 0;
  const sent = (piece: Uint8Array) => {
    progress.bytes += piece.length;
    crc = crc32(piece, crc);
    return piece;
  };
  const flush = function* () {
    yield sent(to.written);
    to.length = 0;
  };
  using items = new Spool();
  using deadlines = new Spool();
  using expires = new Spool();
  let expiring = 0;
  const tables = await namesOf(database, "tables"), sets = await namesOf(database, "sets");
  steps.all = Math.max(1, tables.size + sets.size);
  const expire = await anyExpires(database);
  to.mapHead(expire ? 5 : 4);
  to.str("version");
  to.int(VERSION);
  to.str("store");
  to.mapHead(tables.size);
  for (const name of tables.values()) {
    const table = database.layout.collection("tables", { bytes: name, from: 0, to: name.length });
    let count = 0, delayed = 0;
    for await (const found of database.each((partition) => entriesIn(database, table, partition), AHEAD)) {
      for (let i = 0; i < found.length; i += 2) {
        const key = found[i], stored = found[i + 1], deadline = deadlineOf(stored);
        // (It was written since the store began, which has no place for deadlines.)
        if (deadline < Infinity && !expire) continue;
        count++;
        items.add(key);
        items.add(valueOf(stored));
        if (deadline === Infinity) continue;
        delayed++;
        deadlines.add(key);
        deadlines.writer.int(deadline);
      }
      progress.entries += found.length / 2;
    }
    if (delayed > 0) {
      expiring++;
      expires.add(name);
      expires.writer.mapHead(delayed);
      for (const piece of deadlines.read()) expires.add(piece);
    }
    to.raw(name);
    to.mapHead(count);
    yield* flush();
    for (const piece of items.read()) yield sent(piece);
    steps.done++;
  }
  to.str("sets");
  to.mapHead(sets.size);
  for (const name of sets.values()) {
    const set = database.layout.collection("sets", { bytes: name, from: 0, to: name.length });
    let count = 0;
    for await (const members of database.each((partition) => keysIn(database, set, partition), AHEAD)) {
      for (const member of members) items.add(member);
      count += members.length;
      progress.entries += members.length;
    }
    to.raw(name);
    to.arrayHead(count);
    yield* flush();
    for (const piece of items.read()) yield sent(piece);
    steps.done++;
  }
  if (expire) {
    to.str("expires");
    to.mapHead(expiring);
    yield* flush();
    for (const piece of expires.read()) yield sent(piece);
  } else yield* flush();
  to.str("crc32");
  to.int(crc);
  progress.bytes += to.length;
  yield to.written;
}

/** Whether there may be entries that expire. */
async function anyExpires(database: Database): Promise<boolean> {
  const ask = (partition: number) =>
    database.send(partition, ["EXISTS", database.due(partition)], "repeatable");
  for await (const found of database.each(ask)) if (found === 1) return true;
  return false;
}

/** How many partitions are asked at a time: what they reply is in memory. */
const AHEAD = { most: 4 };
