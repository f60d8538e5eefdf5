/**
 * Where tables and sets are in Redis.
 *
 * A table or set is divided over a fixed number of **partitions** (256), by a hash of the canonical key or member. All keys
 * of a partition have the same hash tag, so they are on one node, and a script or a `SUNION` may use several of them.
 *
 * ```text
 * memstore                        hash    the format's version, the number of partitions, the secret of the hash
 * memstore:{0}, memstore:{1}, …   hash    copies of it: {@link ./agreement.ts}
 * memstore:{17}:tables            set     the names of the tables that exist, as far as partition 17 knows
 * memstore:{17}:sets              set     the same for sets
 * memstore:{17}:t:users           hash    the entries of the table "users": key → value, or c1 | deadline | value
 * memstore:{17}:x:users           zset    keys of the table that have a deadline, by their deadlines
 * memstore:{17}:due               zset    tables that have such keys, by the earliest deadline
 * memstore:{17}:s:colors          set     the members of the set "colors"
 * memstore:lease                  string  the front that deletes what has expired, for now
 * memstore:restore                string  the front that restores a state, for now
 * memstore:{17}:new:…             what it has read already: {@link ./loading.ts}
 * ```
 *
 *  - `memstore` is the prefix, a setting. `{17}` is the tag of partition 17: its number, and a suffix that brings it into the
 *    17th of 256 equal ranges of Redis Cluster's slots. So nodes that have as many slots have as many partitions.
 *  - A name that is a string of UTF-8 is written as it is, after a colon; any other as `#` and its canonical bytes in hex:
 *    `memstore:{17}:t#cd0400`. Catalogs and `due` have names in the same form: `:users`, `#cd0400`.
 *  - Keys and members are canonical ({@link ../../msgpack/key.ts}). A value is the bytes that a client sent. The byte
 *    c1 begins no MessagePack item: it marks a value that has a deadline, in milliseconds since 1970 as a float of 64 bits.
 *  - A table exists from the first write to it until it is dropped, also while it is empty. A script that makes the first
 *    entry of a table in a partition adds the name to that partition's catalog in the same step, so no crash of a front comes
 *    in between. A table exists if one of the partitions has its name.
 *  - What has a deadline is in `x` as long as it is there; {@link ./sweeper.ts} deletes it when its time has come, and until
 *    then nobody sees it.
 *  - The clock that counts is that of the node that has the partition.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { head, latin1, Writer } from "../../msgpack/msgpack.ts";
import type { Span } from "../../msgpack/key.ts";
import { halfSipHash } from "../../blocks/hash.ts";

/** The version of this layout. */
export const VERSION = "1";
/** How many partitions there are if the data is new. */
export const PARTITIONS = 256;
/** The slots of Redis Cluster. */
const SLOTS = 16384;
/** Begins a value that has a deadline, … */
const DEADLINE = 0xc1;
/** … and this many bytes of it are not the value. */
const DEADLINE_BYTES = 9;
/** How many tables' keys are kept: others are built again. */
const KEPT_NAMES = 1024;

/** The two kinds of collections. */
export type Kind = "tables" | "sets";

/** The keys of one cluster's data. */
export class Layout {
  /** The key that holds what all fronts must agree on. */
  readonly meta: string;
  /** What all keys of a partition begin with. */
  readonly bases: readonly string[];
  /** The slots of the partitions, in Redis Cluster. */
  readonly slots: readonly number[];
  readonly #secret: Uint8Array;
  readonly #hashKey: readonly [number, number];
  readonly #kept = { tables: new Map<string, Collection>(), sets: new Map<string, Collection>() };
  #last: Collection | undefined;

  /** @param secret Eight bytes, the same for all fronts: nobody else can choose keys that are all in one partition. */
  constructor(prefix: string, partitions: number, secret: Uint8Array, stage = "") {
    this.meta = prefix;
    const tags = Array.from({ length: partitions }, (_, i) => tagOf(i, partitions));
    this.bases = tags.map((tag) => `${prefix}:{${tag}}:${stage}`);
    this.slots = tags.map(slotOf);
    const view = new DataView(secret.buffer, secret.byteOffset, 8);
    this.#secret = secret;
    this.#hashKey = [view.getInt32(0), view.getInt32(4)];
  }

  /**
   * The keys of data that is to take the place of this one's: `memstore:{17}:new:t:users`. They are in the same partitions.
   */
  get next(): Layout {
    return new Layout(this.meta, this.partitions, this.#secret, "new:");
  }

  /** How many partitions there are. */
  get partitions(): number {
    return this.bases.length;
  }

  /** The partition of a canonical key or member. */
  partitionOf({ bytes, from, to }: Span): number {
    const [k0, k1] = this.#hashKey;
    return (halfSipHash(bytes, from, to, k0, k1) >>> 0) % this.bases.length;
  }

  /** How many places a scan knows in a partition: a cursor, which has 32 bits, is a partition and a place in it. */
  get positions(): number {
    return Math.floor(2 ** 32 / this.bases.length);
  }

  /** The place of a canonical key in its partition. (Clients see it in cursors: it tells nothing of partitions.) */
  positionOf(key: Uint8Array): number {
    const [k0, k1] = this.#hashKey;
    return (halfSipHash(key, 0, key.length, ~k1, ~k0) >>> 0) % this.positions;
  }

  /** The table or set of a canonical name. */
  collection(kind: Kind, name: Span): Collection {
    const last = this.#last;
    if (last?.kind === kind && last.isNamed(name)) return last;
    const kept = this.#kept[kind], id = latin1(name.bytes, name.from, name.to);
    let found = kept.get(id);
    if (!found) {
      if (kept.size >= KEPT_NAMES) kept.clear();
      found = new Collection(this, kind, name);
      kept.set(id, found);
    }
    return this.#last = found;
  }
}

/** The keys of one table or set. */
export class Collection {
  readonly kind: Kind;
  /** Its canonical name. */
  readonly name: Buffer;
  /** What its keys end with, and how catalogs have its name. */
  readonly suffix: string;
  readonly #bases: readonly string[];
  readonly #keys: string[] = [];

  constructor(layout: Layout, kind: Kind, { bytes, from, to }: Span) {
    this.kind = kind;
    this.name = Buffer.from(bytes.slice(from, to));
    this.suffix = suffixOf(this.name);
    this.#bases = layout.bases;
  }

  /** Whether this is its name. */
  isNamed({ bytes, from, to }: Span): boolean {
    const { name } = this;
    if (to - from !== name.length) return false;
    for (let i = 0; i < name.length; i++) if (name[i] !== bytes[from + i]) return false;
    return true;
  }

  /** The key of the entries, or members, in a partition. */
  key(partition: number): string {
    const letter = this.kind === "tables" ? "t" : "s";
    return this.#keys[partition] ??= `${this.#bases[partition]}${letter}${this.suffix}`;
  }

  /** The key of the deadlines. */
  deadlines(partition: number): string {
    return `${this.#bases[partition]}x${this.suffix}`;
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** `:users` for a string of UTF-8, `#cd0400` for any other name. */
function suffixOf(name: Buffer): string {
  const { type, body } = head(name, 0);
  try {
    if (type === "str") return `:${utf8.decode(name.subarray(body))}`;
  } catch {
    // (pymemstore's strings may have any bytes.)
  }
  return `#${name.toString("hex")}`;
}

/** The canonical name that a suffix was made of. */
export function nameOf(suffix: Buffer): Buffer {
  if (suffix[0] !== COLON) return Buffer.from(suffix.toString("latin1", 1), "hex");
  const to = new Writer(suffix.length + 4);
  to.strHead(suffix.length - 1);
  to.raw(suffix.subarray(1));
  return Buffer.from(to.written);
}

const COLON = 0x3a;

/** A value as Redis has it, without its deadline. */
export function valueOf(stored: Buffer): Buffer {
  return stored[0] === DEADLINE ? stored.subarray(DEADLINE_BYTES) : stored;
}

/** When a value's time comes, in milliseconds since 1970; Infinity for never. */
export function deadlineOf(stored: Buffer): number {
  return stored[0] === DEADLINE ? stored.readDoubleBE(1) : Infinity;
}

/** The tag of a partition: the shortest that begins with its number and is in its range of slots. */
function tagOf(partition: number, partitions: number): string {
  for (let i = -1;; i++) {
    const tag = i < 0 ? `${partition}` : `${partition}.${i.toString(36)}`;
    if (Math.floor(slotOf(tag) * partitions / SLOTS) === partition) return tag;
  }
}

/** The slot of a hash tag: CRC-16 (XMODEM) of it. */
export function slotOf(tag: string): number {
  let crc = 0;
  for (let i = 0; i < tag.length; i++) {
    crc ^= tag.charCodeAt(i) << 8;
    for (let bit = 0; bit < 8; bit++) crc = (crc << 1 ^ (crc & 0x8000 ? 0x1021 : 0)) & 0xffff;
  }
  return crc % SLOTS;
}
