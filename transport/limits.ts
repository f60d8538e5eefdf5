/**
 * What clients may ask of a host: the limits, their defaults and their ranges.
 *
 * @module
 */

/** The limits that a host holds its clients to. */
export interface Limits {
  /**
   * Bytes of a message, and of its reply. A client that sends a longer message is disconnected; a command with a longer
   * reply is refused.
   * @default {67108864}
   */
  message: number;
  /**
   * Commands in a message.
   * @default {65536}
   */
  commands: number;
  /**
   * How deep values may be nested; 512 at most, since MessagePack readers accept no more.
   * @default {512}
   */
  depth: number;
  /**
   * Bytes of replies that a client may leave unread: above that, its next requests wait until it has read some. If it
   * reads nothing for ten seconds, it is disconnected.
   * @default {16777216}
   */
  outputBuffer: number;
  /**
   * Requests of a client that may wait or be in flight: if it sends more, it is disconnected.
   * @default {256}
   */
  requests: number;
  /**
   * Connections to each endpoint: above that, each new connection closes one that has never sent anything, or is idle.
   * @default {1024}
   */
  clients: number;
  /**
   * Clients of all endpoints together that may have a lane, in shared memory. Others send their messages over the socket.
   * @default {256}
   */
  lanes: number;
  /**
   * Bytes of all lanes together. One takes 320 KiB.
   * @default {134217728}
   */
  laneBytes: number;
}

/** The defaults. */
export const LIMITS: Readonly<Limits> = {
  message: 2 ** 26,
  commands: 2 ** 16,
  depth: 512,
  outputBuffer: 2 ** 24,
  requests: 256,
  clients: 1024,
  lanes: 256,
  laneBytes: 2 ** 27,
};

/** The least and the most that each limit may be. */
export const LIMIT_RANGES: Readonly<Record<keyof Limits, readonly [least: number, most: number]>> = {
  message: [2 ** 10, 2 ** 31 - 1],
  commands: [1, 2 ** 20],
  depth: [1, 512],
  outputBuffer: [2 ** 10, 2 ** 40],
  requests: [1, 2 ** 20],
  clients: [1, 2 ** 20],
  lanes: [0, 2 ** 20],
  laneBytes: [0, 2 ** 40],
};

/**
 * Completes limits with the defaults.
 *
 * @throws {RangeError} if one of them is out of its range.
 */
export function completeLimits(given: Partial<Limits>): Limits {
  const limits = { ...LIMITS };
  for (const name of Object.keys(LIMITS) as (keyof Limits)[]) {
    const value = given[name] ?? LIMITS[name];
    const [least, most] = LIMIT_RANGES[name];
    if (!Number.isInteger(value) || value < least || value > most) {
      const why = `the limit ${name} must be an integer of ${least} to ${most}`;
      throw new RangeError(`Cannot make a host: ${why}: received ${value}`);
    }
    limits[name] = value;
  }
  return limits;
}
