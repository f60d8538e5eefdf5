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
  const end = performance.now() + timeout;
  const options = (): CallOptions => {
    const left = end - performance.now();
    if (left > 0) return { timeout: left, signal };
    const why = `other clients changed it at each attempt for ${timeout} ms`;
    throw new MemStoreError("TIMEOUT", `Cannot update the key: ${why}`);
  };
  for (;;) {
    const old = await methods.get<Value>(table, key, options());
    const value = await update(old);
    if (await replace(methods, table, key, old, value, options())) return value;
  }
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
