/**
 * What all fronts of the same data must agree on: the layout's version, the number of partitions, and the secret of the hash
 * that divides keys over them. A front with another secret would look for each key in another partition: it would not find
 * what is there, and write it a second time.
 *
 * So it must not be lost before the data is. It is in the key `memstore`, and in copies that other nodes have: `memstore:{0}`,
 * `memstore:{1}`, … A front that starts takes what it finds in any of them. While it runs it looks at the first every second:
 * if that is gone (`FLUSHALL`, or a node that came back without its data), it is written again.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { MemStoreError } from "../../transport/message.ts";
import { Layout, PARTITIONS, slotOf, VERSION } from "./layout.ts";
import type { Nodes } from "./nodes.ts";
import type { RedisOptions } from "./options.ts";

/** How many copies there are. */
const COPIES = 16;
/** How often a front looks whether the others still agree, in milliseconds. */
const LOOK_MS = 1000;

const FIELDS = ["version", "partitions", "secret"];
/** The values of the fields. */
type Terms = readonly Buffer[];

/** The agreement of a front with all others, until it is closed. */
export class Agreement {
  /** Where the data is. */
  readonly layout: Layout;
  readonly #nodes: Nodes;
  readonly #terms: Terms;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  private constructor(nodes: Nodes, prefix: string, terms: Terms) {
    const [, partitions, secret] = terms;
    this.layout = new Layout(prefix, Number(partitions), secret);
    this.#nodes = nodes;
    this.#terms = terms;
    this.#schedule();
  }

  /**
   * Reads it. The first front writes it.
   *
   * @throws {MemStoreError} if it is not what this front was told.
   */
  static async reach(nodes: Nodes, { prefix, partitions }: RedisOptions): Promise<Agreement> {
    const found = (await readAll(nodes, prefix)).find(isComplete);
    const secret = Buffer.from(crypto.getRandomValues(new Uint8Array(8)));
    const fresh = [Buffer.from(VERSION), Buffer.from(String(partitions ?? PARTITIONS)), secret];
    // (Where several fronts start at once, the first value of each field counts for all.)
    await write(nodes, prefix, found ?? fresh);
    const terms = await read(nodes, prefix), [version, count] = terms.map(String);
    if (version !== VERSION) {
      const why = `the data under "${prefix}" has layout ${version}, and this version needs ${VERSION}`;
      throw new MemStoreError("FAILED", `Cannot use the data in Redis: ${why}`);
    }
    if (partitions !== undefined && partitions !== Number(count)) {
      const why = `the data under "${prefix}" has ${count} partitions, and not ${partitions}`;
      throw new MemStoreError("FAILED", `Cannot use the data in Redis: ${why}: leave the setting out`);
    }
    await writeAll(nodes, prefix, terms);
    return new Agreement(nodes, prefix, terms);
  }

  /** Looks no more. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #schedule(): void {
    this.#timer = setTimeout(async () => {
      // (What fails is done the next time.)
      await this.#look().catch(() => {});
      if (!this.#closed) this.#schedule();
    }, LOOK_MS);
  }

  async #look(): Promise<void> {
    const nodes = this.#nodes, prefix = this.layout.meta, mine = this.#terms;
    const terms = await read(nodes, prefix);
    if (terms.every((each, i) => each?.equals(mine[i]))) return;
    if (terms.every((each) => each === null)) return await writeAll(nodes, prefix, mine);
    const why = `the key "${prefix}" was changed: other fronts look for entries elsewhere`;
    nodes.refuse(new MemStoreError("FAILED", `Cannot use the data in Redis: ${why}: start this front again`));
  }
}

/** The keys that hold it. */
function keysOf(prefix: string): string[] {
  return [prefix, ...Array.from({ length: COPIES }, (_, i) => `${prefix}:{${i}}`)];
}

async function read(nodes: Nodes, key: string): Promise<Terms> {
  return await nodes.send(slotOf(tagIn(key)), ["HMGET", key, ...FIELDS], "repeatable") as Buffer[];
}

async function readAll(nodes: Nodes, prefix: string): Promise<Terms[]> {
  try {
    return await Promise.all(keysOf(prefix).map((key) => read(nodes, key)));
  } catch (error) {
    if (!/WRONGTYPE/.test(String(error))) throw error;
    const why = `the key "${prefix}" is another program's: set another prefix`;
    throw new MemStoreError("FAILED", `Cannot use the data in Redis: ${why}`);
  }
}

function isComplete(terms: readonly (Buffer | null)[]): boolean {
  return terms.every((each) => each !== null);
}

/** Writes the fields that are not there. */
async function write(nodes: Nodes, key: string, terms: Terms): Promise<void> {
  const slot = slotOf(tagIn(key));
  await Promise.all(
    FIELDS.map((field, i) => nodes.send(slot, ["HSETNX", key, field, terms[i]], "repeatable")),
  );
}

async function writeAll(nodes: Nodes, prefix: string, terms: Terms): Promise<void> {
  await Promise.all(keysOf(prefix).map((key) => write(nodes, key, terms)));
}

/** What decides on the slot of a key. */
function tagIn(key: string): string {
  return /\{(.+)\}/.exec(key)?.[1] ?? key;
}
