/**
 * What methods make of commands, the client's and the host's own: their names in camel case, booleans for yes or no,
 * and `undefined` for what is missing.
 *
 * @module
 */

/** `in_set` → `inSet`. */
export type CamelCase<Name extends string> = Name extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<CamelCase<Tail>>}`
  : Name;

/** What a method gives where its command replies yes or no as 1 or 0, and nil for what is missing. */
export type Converted<Reply> = [Reply] extends [0 | 1] ? ([0 | 1] extends [Reply] ? boolean : Reply)
  : null extends Reply ? unknown extends Reply ? unknown : Exclude<Reply, null> | undefined
  : Reply;

/** Yes or no. */
export const isOne = (reply: unknown): boolean => reply === 1;

/** A value, or `undefined` for nil. */
export const orUndefined = <Value>(reply: unknown): Value | undefined =>
  (reply ?? undefined) as Value | undefined;

/** Values, and `undefined` for each that is nil. */
export const eachOrUndefined = <Value>(reply: unknown): (Value | undefined)[] =>
  (reply as unknown[]).map(orUndefined<Value>);

/** Arguments, and the seconds that follow them where they are given. */
export function withSeconds(args: unknown[], options: { seconds?: number } | undefined): unknown[] {
  if (options?.seconds !== undefined) args.push(options.seconds);
  return args;
}

/** Whether a value is a promise, or like one. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === "function";
}

/** @throws {TypeError} if a function returned a promise: what it still does is outside of what it was called for. */
export function refusePromise(result: unknown, what: string): void {
  if (!isThenable(result)) return;
  // (How that ends is told to nobody.)
  result.then(undefined, () => {});
  throw new TypeError(`Cannot ${what}: its function must not be asynchronous: received a promise`);
}
