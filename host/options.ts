/**
 * The options of a host, and what holds where one is left out.
 *
 * @module
 */

import { resolve } from "node:path";
import { completeRedis, type RedisOptions } from "../engine/redis/options.ts";
import type { Log } from "../state/persistence.ts";
import type { S3Options } from "../state/s3.ts";
import { completeLimits, type Limits } from "../transport/limits.ts";
import { safeLog } from "./log.ts";

/** The least `maxMemory`, in bytes: memory is taken in pieces of 1 MiB. */
const MIN_MEMORY = 2 ** 23;

/** How a host keeps and serves its data. */
export interface MemStoreOptions {
  /**
   * What holds the data: `memory`, which is this process, or a Redis or Valkey server or cluster (7.0 or newer), for which
   * this host is a front that holds nothing: `redis://host:6379`, `redis://user:password@host:7101,host:7102`, or `rediss://…`
   * for TLS. Several nodes are those that are asked first; whether it is a cluster is found out.
   * @default {"memory"}
   */
  engine?: string;
  /** How the data is kept in Redis, if that is the engine. */
  redis?: Partial<RedisOptions>;
  /**
   * The directory that the paths of `store` and `restore` are relative to, and that they may not leave.
   * @default {"the working directory"}
   */
  dataDirectory?: string;
  /**
   * Whether the paths of `store` and `restore` may lead out of the data directory.
   * @default {false}
   */
  allowAnyPath?: boolean;
  /**
   * Where the state is kept: a path relative to the data directory, or `s3://bucket/key`. It is loaded at the start if it
   * exists, and stored at the stop. Left out: the data is lost when the process ends.
   */
  state?: string;
  /** How often the state is stored if it has changed, in milliseconds; left out: only at the stop. */
  storeEvery?: number;
  /**
   * How many bytes tables and sets may take: a command that would need more is refused with `OUT_OF_MEMORY`. 8 MiB at
   * least; left out: 32 GiB, which is the most that they can take.
   *
   * A restore reads the new data beside the old: until it has replaced the old, it may take as many bytes again. Two
   * restores may run at a time. A union of sets, or a large difference, is built in memory of its own in the same way.
   */
  maxMemory?: number;
  /** How to reach S3. */
  s3?: S3Options;
  /**
   * The file of the host's secret key, see `memstore keygen`: `tcp://` addresses are then served with CURVE, to
   * the clients of `authorizedClients` alone.
   */
  key?: string;
  /** The file that lists the public keys of clients, with their rights: see {@link ../auth/clients.ts}. */
  authorizedClients?: string;
  /**
   * Whether to serve `tcp://` addresses that other machines can reach without keys: everybody who reaches them may do
   * everything.
   * @default {false}
   */
  insecure?: boolean;
  /**
   * Whether the group of the socket files may connect too (mode 0660 instead of 0600): all of its members may do
   * everything. The endpoint must then be a path, not a bare name, in a directory that the group can enter.
   * @default {false}
   */
  allowGroup?: boolean;
  /**
   * Whether clients of this machine may have lanes through shared memory, which are much faster than the socket. Linux
   * only. {@linkcode Limits.lanes} bounds how many.
   * @default {true}
   */
  lane?: boolean;
  /**
   * Whether the data is in the memory of this process alone. Otherwise processes of the same user on this machine map it,
   * and read it without asking the host (Linux on x86-64).
   * @default {false}
   */
  privateMemory?: boolean;
  /** What clients may ask of the host; a limit that is left out has its default, see {@linkcode Limits}. */
  limits?: Partial<Limits>;
  /** Called for each store and restore, and for clients that are refused or disconnected; left out: nothing is logged. */
  log?: Log;
}

/** The options of a host, complete and checked. */
export interface HostOptions extends MemStoreOptions {
  readonly engine: string;
  readonly redis: RedisOptions;
  /** An absolute path: it stays the same if the process changes its working directory. */
  readonly dataDirectory: string;
  readonly allowAnyPath: boolean;
  readonly s3: S3Options;
  readonly insecure: boolean;
  readonly allowGroup: boolean;
  readonly lane: boolean;
  readonly privateMemory: boolean;
  readonly limits: Limits;
  /** Never throws. */
  readonly log: Log;
}

/**
 * Completes options with the defaults.
 *
 * @throws {RangeError} if one of them is out of its range.
 * @throws {TypeError} if one of them is for another engine, or the engine cannot be one.
 */
export function completeOptions(options: MemStoreOptions): HostOptions {
  const {
    engine = "memory",
    redis = {},
    dataDirectory = ".",
    allowAnyPath = false,
    s3 = {},
    insecure = false,
    allowGroup = false,
    lane = true,
    privateMemory = false,
  } = options;
  const { storeEvery, maxMemory, limits = {}, log = () => {} } = options;
  if (storeEvery !== undefined && !(storeEvery > 0)) {
    throw new RangeError(`Cannot make a host: storeEvery must be above 0: received ${storeEvery}`);
  }
  if (engine !== "memory" && (options.state !== undefined || maxMemory !== undefined)) {
    const what = options.state !== undefined ? "state" : "maxMemory";
    throw new TypeError(
      `Cannot make a host: ${what} is for the engine memory: in Redis, Redis keeps the data`,
    );
  }
  if (maxMemory !== undefined && !(maxMemory >= MIN_MEMORY)) {
    const why = `maxMemory must be ${MIN_MEMORY} bytes at least`;
    throw new RangeError(`Cannot make a host: ${why}: received ${maxMemory}`);
  }
  return {
    ...options,
    engine,
    redis: completeRedis(redis),
    dataDirectory: resolve(dataDirectory),
    allowAnyPath,
    s3,
    insecure,
    allowGroup,
    lane,
    privateMemory,
    limits: completeLimits(limits),
    log: safeLog(log),
  };
}
