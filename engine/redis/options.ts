/**
 * How the data is kept in Redis.
 *
 * @module
 */

/** How the data is kept in Redis. */
export interface RedisOptions {
  /**
   * What all keys of this data begin with: fronts with the same prefix have the same data.
   * @default {"memstore"}
   */
  prefix: string;
  /**
   * Into how many partitions new data is divided, 1 to 4096. All fronts must agree on it; data that is there has its own.
   * @default {256}
   */
  partitions?: number;
  /**
   * How many replicas of a node must have a write before it is acknowledged. A write that too few have in time is
   * `UNCERTAIN`: it was done, and may be lost if its node is.
   * @default {0}
   */
  replicas: number;
}

/**
 * Completes the options with the defaults.
 *
 * @throws {RangeError} if one of them is out of its range.
 */
export function completeRedis(
  { prefix = "memstore", partitions, replicas = 0 }: Partial<RedisOptions>,
): RedisOptions {
  if (!/^[^{}\s]{1,64}$/.test(prefix)) {
    const why = "the prefix has 1 to 64 characters, without spaces and braces";
    throw new RangeError(`Cannot use Redis: ${why}: received ${prefix}`);
  }
  if (partitions !== undefined && !(Number.isInteger(partitions) && partitions >= 1 && partitions <= 4096)) {
    throw new RangeError(`Cannot use Redis: partitions must be 1 to 4096: received ${partitions}`);
  }
  if (!(Number.isInteger(replicas) && replicas >= 0)) {
    throw new RangeError(`Cannot use Redis: replicas must be 0 or more: received ${replicas}`);
  }
  return { prefix, partitions, replicas };
}
