/**
 * Stores and restores a host's data: for clients, and for the state that the host itself keeps. What is the same for every
 * engine is {@linkcode Transfers}.
 *
 * @module
 */

import type { Transfer } from "../commands/list.ts";
import type { Store } from "../engine/memory/store.ts";
import { MemStoreError } from "../transport/message.ts";
import { type PathBounds, StateFile } from "./file.ts";
import { decodeState, encodeState, type Progress } from "./format.ts";
import type { Gate } from "./gate.ts";
import { gzip, type Pieces, plain } from "./gzip.ts";
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
export interface Running extends Progress {
  what: Transfer["what"];
  where: string;
  start: number;
  /** How far it is, from 0 to 1. */
  done(): number;
}

/** The data of an engine that is being stored. */
export interface EncodedState extends Disposable {
  /** The state, whose progress is noted. */
  pieces(progress: Progress): Pieces;
  /** How much of it that is, from 0 to 1. */
  done(progress: Progress): number;
}

/** Stores and restores the data of an engine. */
export abstract class Transfers {
  readonly #bounds: PathBounds;
  readonly #s3: S3Options;
  readonly #log: Log;
  readonly #running = new Set<Running>();
  readonly #queue = new TransferQueue(TRANSFERS, PENDING_TRANSFERS);

  constructor(bounds: PathBounds, s3: S3Options, log: Log) {
    this.#bounds = bounds;
    this.#s3 = s3;
    this.#log = log;
  }

  /** The data as it is to be stored. */
  protected abstract encode(): EncodedState;

  /** Replaces the data by a state. If it throws, the data is as it was. */
  protected abstract replace(pieces: AsyncIterable<Uint8Array>, progress: Progress): Promise<void>;

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
   * Stores the state for a client. If two others are running, it waits. It is compressed if that is asked for, or the location's name ends
   * with `.gz`.
   *
   * @throws {Error} that says what could not be stored where, and why.
   */
  store(location: StateLocation, compress = false): Promise<void> {
    return this.#queue.run(`store to ${location.name}`, () => this.write(location, "refuse", compress));
  }

  /**
   * Replaces the data by a state, for a client. If two others are running, it waits.
   *
   * @throws {Error} that says what could not be restored from where, and why; the data is as it was.
   */
  async restore(location: StateLocation): Promise<void> {
    await this.#queue.run(
      `restore from ${location.name}`,
      () =>
        this.run("restore", location, async (running) => {
          const stored = await location.read();
          if (!stored) throw new Error("nothing is there");
          await this.replace(piecesOf(stored, running), running);
          return stored;
        }),
    );
  }

  /** Refuses the stores and restores that wait. */
  refusePending(why: Error): void {
    this.#queue.refusePending(why);
  }

  /** Stores the state. */
  protected async write(location: StateLocation, whenBusy: WhenBusy, compress: boolean): Promise<void> {
    using state = this.encode();
    await this.run("store", location, async (running) => {
      running.done = () => state.done(running);
      const pieces = state.pieces(running);
      await location.write(compress || location.name.endsWith(".gz") ? gzip(pieces) : pieces, whenBusy);
    });
  }

  /** Does it, and logs how it ended. */
  protected async run<Result>(
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

/** Stores and restores one store in memory: the state is that of one moment. */
export class Persistence extends Transfers {
  readonly #store: Store;
  readonly #gate: Gate | undefined;

  /** @param gate Tells when the data may not be replaced any more. */
  constructor(store: Store, bounds: PathBounds, s3: S3Options, log: Log, gate?: Gate) {
    super(bounds, s3, log);
    this.#store = store;
    this.#gate = gate;
  }

  /** Stores the state for the host itself: at once, or after a client's store to the same location. */
  storeOwn(location: StateLocation): Promise<void> {
    return this.write(location, "wait", false);
  }

  /**
   * Reads a state into a store of its own; undefined if nothing is there.
   *
   * @throws {Error} that says what could not be restored from where, and why.
   */
  load(location: StateLocation): Promise<{ state: Store; time: Date | undefined } | undefined> {
    return this.run("restore", location, async (running) => {
      const stored = await location.read();
      return stored && { state: await this.#read(piecesOf(stored, running), running), time: stored.time };
    });
  }

  protected override encode(): EncodedState {
    const state = this.#store.snapshot();
    const all = state.tables.totals.entries + state.sets.totals.entries;
    return {
      pieces: (progress) => encodeState(state, progress),
      done: ({ entries }) => all === 0 ? 1 : entries / all,
      [Symbol.dispose]: () => state[Symbol.dispose](),
    };
  }

  protected override async replace(pieces: AsyncIterable<Uint8Array>, progress: Progress): Promise<void> {
    const state = await this.#read(pieces, progress);
    try {
      this.#gate?.check("restore");
      this.#store.swap(state);
    } finally {
      // Of what was replaced, or could not be used.
      await state.close();
    }
  }

  async #read(pieces: AsyncIterable<Uint8Array>, progress: Progress): Promise<Store> {
    const store = this.#store.sibling();
    try {
      return await decodeState(pieces, store, progress);
    } catch (error) {
      await store.close();
      throw error;
    }
  }
}

/** The bytes of what is stored, not compressed any more. How far they were read is noted. */
function piecesOf({ pieces, size }: Stored, running: Running): AsyncIterable<Uint8Array> {
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
  return freed(plain(counted));
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
