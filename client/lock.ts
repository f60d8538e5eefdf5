/**
 * A lock that processes share: an entry that expires, holds the token of its owner, and is renewed while it is held.
 *
 * ```text
 * acquire  batch: incr fences NAME · set_new locks NAME token ttl     1: ours, with this fencing number
 * renew    batch: del_if locks NAME token · set_new locks NAME token ttl     every third of the ttl
 * release  del_if locks NAME token
 * ```
 *
 * The fencing number comes from the same batch as the entry, so of two owners the later one has the greater number. A
 * renewal touches only an entry that has our token: another owner's expiry stays as it is.
 *
 * @module
 */

import { MemStoreError } from "../transport/message.ts";
import type { CallOptions, CommandMethods } from "./methods.ts";

/** The table of the locks: the name of each, and the token of its owner. */
const LOCKS = "memstore:locks";
/** The table of the fencing numbers that were given out last. */
const FENCES = "memstore:fences";

const DEFAULT_TTL_MS = 10_000;
/** The shortest ttl: a renewal must have time to arrive. */
const MIN_TTL_MS = 100;
/** How often it is tried to acquire a lock that another owner holds, in milliseconds: between half of this and this. */
const POLL_MS = 50;
/** Milliseconds until a renewal that failed is tried again. */
const RETRY_MS = 50;

/** Options of {@linkcode MemStoreClient.lock}. */
export interface LockOptions {
  /**
   * Milliseconds after which the lock is free if its owner does not renew it: because it was killed, for example.
   * @default {10000}
   */
  ttl?: number;
  /**
   * Milliseconds to wait while another owner holds the lock; 0 tries once.
   * @default {"the client's timeout"}
   */
  wait?: number;
  /** Gives up waiting when it is aborted. */
  signal?: AbortSignal;
}

/** What a lock needs of its client. */
export interface LockClient extends CommandMethods {
  batch<const Replies extends readonly unknown[]>(
    commands: (batch: CommandMethods) => Replies,
    options?: CallOptions,
  ): Promise<{ -readonly [I in keyof Replies]: Awaited<Replies[I]> }>;
}

/**
 * A lock that is held. It is renewed until it is released, at the end of an `await using` block or by
 * {@linkcode Lock.release}. Made by {@linkcode MemStoreClient.lock}.
 */
export class Lock implements AsyncDisposable {
  /** The lock's name. */
  readonly name: unknown;
  /**
   * The fencing number: greater than that of every earlier owner. Where a write reaches something outside of the host,
   * send it along, and refuse a write whose number is smaller than one that was seen.
   */
  readonly fence: number | bigint;
  /**
   * Aborts when the lock is not ours any more: it could not be renewed before it expired. Whoever works under the lock
   * stops then.
   */
  readonly lost: AbortSignal;
  readonly #lost = new AbortController();
  readonly #client: LockClient;
  readonly #token: string;
  readonly #ttl: number;
  /** Until when the lock is ours at least, in the time of `performance.now()`. */
  #until: number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #released: Promise<boolean> | undefined;

  private constructor(
    client: LockClient,
    name: unknown,
    token: string,
    fence: number | bigint,
    ttl: number,
    until: number,
  ) {
    this.#client = client;
    this.name = name;
    this.#token = token;
    this.fence = fence;
    this.#ttl = ttl;
    this.#until = until;
    this.lost = this.#lost.signal;
    this.#renewIn(ttl / 3);
  }

  /** Use {@linkcode MemStoreClient.lock}. */
  static async acquire(
    client: LockClient,
    name: unknown,
    { ttl = DEFAULT_TTL_MS, wait, signal }: LockOptions & { wait: number },
  ): Promise<Lock> {
    if (!(ttl >= MIN_TTL_MS)) {
      throw new RangeError(
        `Cannot lock: the ttl must be ${MIN_TTL_MS} milliseconds or more: received ${ttl}`,
      );
    }
    if (!(wait >= 0)) {
      throw new RangeError(`Cannot lock: the wait must be 0 milliseconds or more: received ${wait}`);
    }
    const token = crypto.randomUUID();
    const end = performance.now() + wait;
    for (;;) {
      const start = performance.now();
      const fence = await tryToAcquire(client, name, token, ttl, signal);
      if (fence !== undefined) return new Lock(client, name, token, fence, ttl, start + ttl);
      do {
        const left = end - performance.now();
        if (left <= 0) {
          const text = `Cannot lock ${describe(name)}: another owner held it for ${wait} ms`;
          throw new MemStoreError("TIMEOUT", text);
        }
        await pause(Math.min(left, POLL_MS * (1 + Math.random()) / 2), signal);
      } while (await client.exists(LOCKS, name, { signal }));
    }
  }

  /** Releases the lock; whether it was ours until now. */
  release(): Promise<boolean> {
    return this.#released ??= this.#release();
  }

  /** {@linkcode Lock.release}. Where the host cannot be reached, the lock is free when it has expired. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.release();
    } catch (error) {
      if (!(error instanceof MemStoreError && NOT_REACHED.includes(error.code))) throw error;
    }
  }

  #release(): Promise<boolean> {
    clearTimeout(this.#timer);
    return this.#client.delIf(LOCKS, this.name, this.#token);
  }

  /** Renews after a while. The timer does not keep the process alive. */
  #renewIn(milliseconds: number): void {
    const wait = Math.min(milliseconds, Math.max(0, this.#until - performance.now()));
    this.#timer = setTimeout(() => this.#renew(), wait);
    Deno.unrefTimer(this.#timer);
  }

  async #renew(): Promise<void> {
    const start = performance.now(), left = this.#until - start;
    if (left <= 0) return this.#lose();
    try {
      const [ours, made] = await this.#client.batch(
        (batch) => [
          batch.delIf(LOCKS, this.name, this.#token),
          batch.setNew(LOCKS, this.name, this.#token, { seconds: this.#ttl / 1000 }),
        ],
        { timeout: left },
      );
      if (this.#released) return;
      if (ours) {
        this.#until = start + this.#ttl;
        return this.#renewIn(this.#ttl / 3);
      }
      // It had expired, and others may have had it meanwhile: an entry that was made just now is not ours to keep.
      if (made) this.release().catch(() => {});
      this.#lose();
    } catch {
      if (!this.#released) this.#renewIn(RETRY_MS);
    }
  }

  #lose(): void {
    const text = `Cannot keep the lock ${describe(this.name)}: it expired before it was renewed`;
    this.#lost.abort(new MemStoreError("TIMEOUT", text));
  }
}

/** Codes of calls that did not reach the host, or of which it is not known. */
const NOT_REACHED = ["TIMEOUT", "UNAVAILABLE", "DISCONNECTED", "CLOSED"];

/** Acquires the lock if it is free: its fencing number, or undefined. */
async function tryToAcquire(
  client: LockClient,
  name: unknown,
  token: string,
  ttl: number,
  signal: AbortSignal | undefined,
): Promise<number | bigint | undefined> {
  try {
    const [fence, free] = await client.batch(
      (batch) => [
        batch.incr(FENCES, name),
        batch.setNew(LOCKS, name, token, { seconds: ttl / 1000 }),
      ],
      { signal },
    );
    return free ? fence : undefined;
  } catch (error) {
    // The batch may be done all the same.
    client.delIf(LOCKS, name, token).catch(() => {});
    throw error;
  }
}

/** Resolves after a while; rejects with the signal's reason if that aborts. */
async function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, milliseconds);
  const end = () => resolve();
  signal?.addEventListener("abort", end);
  await promise;
  clearTimeout(timer);
  signal?.removeEventListener("abort", end);
  signal?.throwIfAborted();
}

function describe(name: unknown): string {
  return typeof name === "string" ? JSON.stringify(name) : String(name);
}
