/**
 * A lock that processes share: an entry that has the token of its owner and expires unless the owner renews it.
 *
 * ```text
 * acquire  batch: incr fences NAME · set_new locks NAME token ttl     true: we own it
 * renew    batch: del_if locks NAME token · set_new locks NAME token ttl     every third of the ttl
 * release  del_if locks NAME token
 * ```
 *
 * The fencing number comes from the same batch as the entry, so a later owner has a greater number. A renewal changes
 * the entry only if it has our token.
 *
 * @module
 */

import { MemStoreError } from "../transport/message.ts";
import type { CallOptions, CommandMethods } from "./methods.ts";

/** The table of the locks: from the name of each to the token of its owner. */
const LOCKS = "memstore:locks";
/** The table of the last fencing number of each lock. */
const FENCES = "memstore:fences";

const DEFAULT_TTL_MS = 10_000;
/** The shortest ttl: a renewal must have time to arrive. */
const MIN_TTL_MS = 100;
/** How long to wait before the next attempt to acquire a lock, in milliseconds: from half of this to all of it. */
const POLL_MS = 50;
/** How long to wait before a failed renewal is tried again, in milliseconds. */
const RETRY_MS = 50;

/** Options of {@linkcode MemStoreClient.lock}. */
export interface LockOptions {
  /**
   * How long the lock lasts if its owner does not renew it, in milliseconds. A lock whose owner was killed is free after
   * this time.
   * @default {10000}
   */
  ttl?: number;
  /**
   * How long to wait for the lock while another owner holds it, in milliseconds. With 0 it is tried once.
   * @default {"the client's timeout"}
   */
  wait?: number;
  /** Rejects when it is aborted. */
  signal?: AbortSignal;
}

/** The methods of the client that a lock uses. */
export interface LockClient extends CommandMethods {
  batch<const Replies extends readonly unknown[]>(
    commands: (batch: CommandMethods) => Replies,
    options?: CallOptions,
  ): Promise<{ -readonly [I in keyof Replies]: Awaited<Replies[I]> }>;
}

/**
 * A lock that is held. It is renewed until {@linkcode Lock.release} or the end of its `await using` block. Made by
 * {@linkcode MemStoreClient.lock}.
 */
export class Lock implements AsyncDisposable {
  /** The lock's name. */
  readonly name: unknown;
  /**
   * The fencing number, greater than that of every earlier owner. Send it with each write that the lock protects. The
   * receiver of the writes refuses one whose number is smaller than the greatest so far.
   */
  readonly fence: number | bigint;
  /**
   * Aborts when the lock expired before it could be renewed. Another owner may hold it then, so stop what it protects.
   */
  readonly lost: AbortSignal;
  readonly #lost = new AbortController();
  readonly #client: LockClient;
  readonly #token: string;
  readonly #ttl: number;
  /** When the lock expires at the earliest, in the time of `performance.now()`. */
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

  /** Releases the lock. Returns whether it was still held. */
  release(): Promise<boolean> {
    return this.#released ??= this.#release();
  }

  /** Releases the lock. If the host cannot be reached, the lock expires. */
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

  /** Schedules the next renewal. The timer does not keep the process alive. */
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
      // It had expired, and another owner may have held it meanwhile: delete the entry that was just created.
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

/** Codes of calls that did not reach the host, or may not have. */
const NOT_REACHED = ["TIMEOUT", "UNAVAILABLE", "DISCONNECTED", "CLOSED"];

/** Acquires the lock if it is free. Returns its fencing number, or undefined. */
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
    // The host may have run the batch.
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
