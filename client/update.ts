/**
 * Optimistic update of one entry: read the value, compute the new one, compare and set, and start again if another
 * client was faster.
 *
 * @module
 */

import { MemStoreError } from "../transport/message.ts";
import type { CallOptions, CommandMethods } from "./methods.ts";

/** Computes the new value of a key from the current one. `undefined` stands for a key that does not exist. */
export type Update<Value> = (
  value: Value | undefined,
) => Value | undefined | Promise<Value | undefined>;

/**
 * Replaces the value of a key by what `update` returns for it, and starts again if another client changed it meanwhile.
 *
 * @param timeout How long all attempts may take together, in milliseconds.
 * @returns The new value.
 */
export async function update<Value>(
  methods: CommandMethods,
  table: unknown,
  key: unknown,
  update: Update<Value>,
  timeout: number,
  signal: AbortSignal | undefined,
): Promise<Value | undefined> {
  const timeLeft = attempts(timeout), options = (): CallOptions => ({ timeout: timeLeft(), signal });
  for (;;) {
    const old = await methods.get<Value>(table, key, options());
    const value = await update(old);
    if (await replace(methods, table, key, old, value, options())) return value;
  }
}

/**
 * Begins the attempts of an update, or of something like it.
 *
 * @param timeout How long they may take together, in milliseconds.
 * @param failure What cannot be done, and why: for the error's text.
 * @returns A function that returns the milliseconds that are left, and throws `TIMEOUT` if there are none.
 */
export function attempts(
  timeout: number,
  failure: string = "update the key: other clients changed it",
): () => number {
  const end = performance.now() + timeout;
  return () => {
    const left = end - performance.now();
    // (Whole ones: the texts of errors have them.)
    if (left > 0) return Math.ceil(left);
    throw new MemStoreError("TIMEOUT", `Cannot ${failure} at each attempt for ${timeout} ms`);
  };
}

function replace(
  methods: CommandMethods,
  table: unknown,
  key: unknown,
  old: unknown,
  value: unknown,
  options: CallOptions,
): Promise<boolean> {
  if (value !== undefined) return methods.cas(table, key, old, value, options);
  const deleted = methods.delIf(table, key, old, options);
  // (Where there is no value, a stored null is deleted, and it does not matter whether there was one.)
  return old === undefined ? deleted.then(() => true) : deleted;
}
