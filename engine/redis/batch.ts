/**
 * A batch: commands that are done all or not at all. Redis does in one step what is in one partition, so all of their keys must
 * be in one. (The same key is in the same partition, in whatever table or set it is.)
 *
 * The handlers do not know: they get a {@linkcode Batch} in place of the database, which notes what they would send. When the
 * last one has, one script does all of it, and rolls back if one operation fails.
 *
 * @module
 */

import type { Buffer } from "node:buffer";
import { MemStoreError } from "../../transport/message.ts";
import { equalValues } from "../../msgpack/key.ts";
import { Database } from "./database.ts";
import type { Argument, Reply } from "./node.ts";
import { BATCH, type Script } from "./scripts.ts";

/** How often a batch is tried whose values the front must compare, while others change them. */
const MAX_TRIES = 64;
/** The commands that may be in a batch without a script of their own. */
const PLAIN = ["HGET", "HMGET", "SISMEMBER"];
/** Of the operations that compare a value, where in the arguments is what is expected, and what is known to be another value. */
const COMPARED: Readonly<Record<string, { expected: number; unless: number }>> = {
  cas: { expected: 1, unless: 4 },
  del_if: { expected: 1, unless: 2 },
};

/** What one command of a batch does. */
interface Operation {
  readonly name: string;
  readonly keys: readonly Argument[];
  readonly args: Argument[];
  readonly wanted: Argument | undefined;
  resolve(reply: Reply): void;
  reject(error: unknown): void;
}

/** A database whose commands are done when the batch is run, all or none. */
export class Batch extends Database {
  readonly #database: Database;
  readonly #operations: Operation[] = [];
  #partition: number | undefined;
  #isOver = false;
  #isRefused = false;

  constructor(database: Database) {
    super(database.layout, database.nodes);
    this.#database = database;
  }

  override send(partition: number, args: readonly Argument[]): Promise<Reply> {
    const [command, key, ...others] = args;
    if (!PLAIN.includes(command as string)) throw this.#refuse();
    return this.#note(partition, "call", [key], [command, ...others]);
  }

  override run(partition: number, { operation, keys }: Script, args: readonly Argument[]): Promise<Reply> {
    if (!operation) throw this.#refuse();
    return this.#note(partition, operation, args.slice(0, Number(keys)), args.slice(Number(keys)));
  }

  #note(partition: number, name: string, keys: readonly Argument[], args: Argument[]): Promise<Reply> {
    if (this.#isOver || partition !== (this.#partition ??= partition)) throw this.#refuse();
    const { promise, resolve, reject } = Promise.withResolvers<Reply>();
    const wanted = COMPARED[name] && args[COMPARED[name].expected];
    this.#operations.push({ name, keys, args, wanted, resolve, reject });
    return promise;
  }

  /** Does what was noted. Then the promises of all commands settle: if one fails, those of the others with `NOT_RUN`. */
  async commit(): Promise<void> {
    this.#isOver = true;
    const operations = this.#operations;
    try {
      if (this.#isRefused) throw notRun();
      if (this.#partition === undefined) return;
      for (let i = 0; i < MAX_TRIES; i++) {
        const [failed, results] = await this.#runAll(this.#partition);
        if (failed === 0) return operations.forEach(({ resolve }, i) => resolve((results as Reply[])[i]));
        const operation = operations[failed - 1];
        if (this.#isCompared(operation, results)) continue;
        operation.resolve(results);
        throw notRun();
      }
      throw new MemStoreError("FAILED", "Cannot compare the value: others change it all the time");
    } catch (error) {
      for (const { reject } of operations) reject(error);
    }
  }

  async #runAll(partition: number): Promise<[failed: number, results: Reply]> {
    const keys: Argument[] = [], args: Argument[] = [];
    for (const operation of this.#operations) {
      keys.push(...operation.keys);
      args.push(
        operation.name,
        String(operation.keys.length),
        String(operation.args.length),
        ...operation.args,
      );
    }
    const script = { ...BATCH, keys: String(keys.length) };
    return await this.#database.run(partition, script, [...keys, ...args]) as [number, Reply];
  }

  /** The error of a command because of which nothing is done. */
  #refuse(): MemStoreError {
    this.#isRefused = true;
    const why = "in Redis its commands must all be about the same key, or about keys in the same partition";
    return new MemStoreError("NOT_ATOMIC", `Cannot run the batch: ${why}: send the others on their own`);
  }

  /** Compares a value, if that is why an operation failed. The next time Redis knows what came of it. */
  #isCompared({ name, args, wanted }: Operation, found: Reply): boolean {
    if (wanted === undefined || typeof found === "number") return false;
    const value = found as Buffer, expected = wanted as Buffer, at = COMPARED[name];
    const isSame = equalValues(value, 0, value.length, expected, 0, expected.length);
    args[isSame ? at.expected : at.unless] = value;
    return true;
  }
}

/** Why a command was not done though nothing is wrong with it. */
function notRun(): MemStoreError {
  return new MemStoreError("NOT_RUN", "Cannot run: another command of the batch was refused or failed");
}
