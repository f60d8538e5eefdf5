/**
 * Stores and restores a host's data: for clients, and for the state that the host itself keeps.
 *
 * @module
 */

import type { Transfer } from "../commands/list.ts";
import type { Store } from "../engine/memory/store.ts";
import { MemStoreError } from "../transport/message.ts";
import { type PathBounds, StateFile } from "./file.ts";
import { decodeState, encodeState, type Progress } from "./format.ts";
import type { Gate } from "./gate.ts";
import { gzip, plain } from "./gzip.ts";
import type { StateLocation, Stored, WhenBusy } from "./location.ts";
import { TransferQueue } from "./transfer_queue.ts";
import { parseS3, S3Object, type S3Options } from "./s3.ts";

/** Stores and restores of clients that run at a time. Each has some descriptors, and a restore a second state. */
const TRANSFERS = 2;
/** How many may wait for that. */
const PENDING_TRANSFERS = 64;

/** How much a line of a log matters. */
export type LogLevel = "debug" | "info" | "warning" | "error";

/**
 * Writes a line to the log.
 *
 * @param event What happened, in a word: `store`, `restore`.
 * @param fields The details, as JSON values.
 */
export type Log = (level: LogLevel, event: string, fields: Record<string, unknown>) => void;

/** What is known of a transfer while it runs. */
interface Running extends Progress {
  what: Transfer["what"];
  where: string;
  start: number;
  /** How far it is, from 0 to 1. */
  done(): number;
}

/** Stores and restores one store. */
export class Persistence {
  readonly #store: Store;
  readonly #bounds: PathBounds;
  readonly #s3: S3Options;
  readonly #log: Log;
  readonly #gate: Gate | undefined;
  readonly #running = new Set<Running>();
  readonly #queue = new TransferQueue(TRANSFERS, PENDING_TRANSFERS);

  /** @param gate Tells when the data may not be replaced any more. */
  constructor(store: Store, bounds: PathBounds, s3: S3Options, log: Log, gate?: Gate) {
    this.#store = store;
    this.#bounds = bounds;
    this.#s3 = s3;
    this.#log = log;
    this.#gate = gate;
  }

  /** A file, of a path that a client gave. */
  file(path: string): StateLocation {
    return new StateFile(path, path, this.#bounds);
  }

  /** An object in S3. */
  object(bucket: string, key: string): StateLocation {
    return new S3Object(bucket, key, this.#s3);
  }

  /** What the host itself was told to keep its data in: `s3://bucket/key`, or a path that may lead anywhere. */
  own(where: string): StateLocation {
    const s3 = parseS3(where);
    if (s3) return this.object(s3.bucket, s3.key);
    if (where.startsWith("s3:")) {
      throw new TypeError(`Cannot keep the state: it must be s3://bucket/key: received ${where}`);
    }
    return new StateFile(where, where, { ...this.#bounds, anyPath: true });
  }

  /** Whether a store or restore is running. */
  get busy(): boolean {
    return this.#running.size > 0;
  }

  /** The stores and restores that are running. */
  get transfers(): Transfer[] {
    return Array.from(this.#running, ({ what, where, entries, bytes, start, done }) => ({
      what,
      where,
      entries,
      bytes,
      done: done(),
      seconds: secondsSince(start),
    }));
  }

  /**
   * Stores the state for a client. If two others are running, it waits. It is that of the moment at which it
   * begins; changes made meanwhile are not in it. It is compressed if that is asked for, or the location's name ends
   * with `.gz`.
   *
   * @throws {Error} that says what could not be stored where, and why.
   */
  store(location: StateLocation, compress = false): Promise<void> {
    return this.#queue.run(`store to ${location.name}`, () => this.#write(location, "refuse", compress));
  }

  /** The same for the host itself: at once, or after a client's store to the same location. */
  storeOwn(location: StateLocation): Promise<void> {
    return this.#write(location, "wait", false);
  }

  /**
   * Replaces the data by a state, for a client. If two others are running, it waits.
   *
   * @throws {Error} that says what could not be restored from where, and why; the data is as it was.
   */
  restore(location: StateLocation): Promise<void> {
    return this.#queue.run(
      `restore from ${location.name}`,
      () =>
        this.#run("restore", location, async (running) => {
          const stored = await location.read();
          if (!stored) throw new Error("nothing is there");
          const state = await this.#read(stored, running);
          try {
            this.#gate?.check("restore");
            this.#store.swap(state);
          } finally {
            // Of what was replaced, or could not be used.
            await state.close();
          }
        }),
    );
  }

  /** Refuses the stores and restores that wait. */
  refusePending(why: Error): void {
    this.#queue.refusePending(why);
  }

  /**
   * Reads a state into a store of its own; undefined if nothing is there.
   *
   * @throws {Error} that says what could not be restored from where, and why.
   */
  load(location: StateLocation): Promise<{ state: Store; time: Date | undefined } | undefined> {
    return this.#run("restore", location, async (running) => {
      const stored = await location.read();
      return stored && { state: await this.#read(stored, running), time: stored.time };
    });
  }

  async #write(location: StateLocation, whenBusy: WhenBusy, compress: boolean): Promise<void> {
    using state = this.#store.snapshot();
    const all = state.tables.totals.entries + state.sets.totals.entries;
    await this.#run("store", location, async (running) => {
      running.done = () => all === 0 ? 1 : running.entries / all;
      const pieces = encodeState(state, running);
      await location.write(compress || location.name.endsWith(".gz") ? gzip(pieces) : pieces, whenBusy);
    });
  }

  async #read({ pieces, size }: Stored, running: Running): Promise<Store> {
    let read = 0;
    running.done = () => size === 0 ? 1 : read / size;
    const counted = pieces.pipeThrough(
      new TransformStream<Uint8Array, Uint8Array>({
        transform(piece, controller) {
          read += piece.length;
          controller.enqueue(piece);
        },
      }),
    );
    const store = this.#store.sibling();
    try {
      return await decodeState(freed(plain(counted)), store, running);
    } catch (error) {
      await store.close();
      throw error;
    }
  }

  /** Does it, and logs how it ended. */
  async #run<Result>(
    what: Transfer["what"],
    location: StateLocation,
    run: (running: Running) => Promise<Result>,
  ): Promise<Result> {
    const running: Running = {
      what,
      where: location.name,
      entries: 0,
      bytes: 0,
      start: performance.now(),
      done: () => 0,
    };
    const log = (level: LogLevel, result: string) => {
      const { where, entries, bytes, start } = running;
      this.#log(level, what, { where, entries, bytes, seconds: secondsSince(start), result });
    };
    this.#running.add(running);
    try {
      const result = await run(running);
      log("info", what === "restore" && result === undefined ? "nothing is there" : "ok");
      return result;
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      log("error", why);
      const preposition = what === "store" ? "to" : "from";
      const text = `Cannot ${what} ${preposition} ${location.name}: ${why}`;
      if (error instanceof MemStoreError) throw new MemStoreError(error.code, text);
      throw new Error(text, { cause: error });
    } finally {
      this.#running.delete(running);
    }
  }
}

/**
 * Pieces whose memory is freed once they were read: they are large, and V8 would collect a hundred megabytes of them
 * before it thinks it worthwhile.
 */
async function* freed(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const piece of pieces) {
    yield piece;
    const { buffer } = piece;
    // (A piece of a larger buffer may have neighbours in use.)
    if (buffer instanceof ArrayBuffer && piece.byteLength === buffer.byteLength) buffer.transfer(0);
  }
}

function secondsSince(start: number): number {
  return Math.round(performance.now() - start) / 1000;
}
