/**
 * The description of a command, as data: its name, arguments, help, and the right that it needs. The dispatcher checks
 * calls against it. The client, the command line and the reference in the docs need nothing else.
 *
 * @module
 */

import type { Right } from "../auth/clients.ts";
import type { ReplyShape } from "../transport/message.ts";

/**
 * The type of an argument.
 *
 * | type | |
 * |---|---|
 * | `string`, `bool` | a string; true or false |
 * | `key` | a value that can be a key, a name or a member |
 * | `keys` | an array of such values |
 * | `entries` | a map whose keys are such values |
 * | `number` | an integer, or a float that is finite |
 * | `seconds` | a number of at most {@linkcode MAX_SECONDS} |
 * | `uint32` | an integer of 0 to 2³² - 1 |
 */
export type ArgType = "string" | "bool" | "key" | "keys" | "entries" | "number" | "seconds" | "uint32";

/** The most seconds until an entry expires: about thirty thousand years. */
export const MAX_SECONDS = 1e12;

/** An argument of a command. */
export interface Arg {
  /** Its name, for people. */
  name: string;
  /** Its type; left out: any value. */
  type?: ArgType;
  /** What it does, for people, if the name does not say it. */
  help?: string;
  /** The most items that it may have, if it is an array or a map. */
  most?: number;
  /** The most bytes that it may have. */
  mostBytes?: number;
  /** How many bytes its keys that are arrays or maps may have together: to put them in order takes long. */
  mostNested?: number;
  /** It is optional, as are those that follow it. */
  optional?: true;
  /** Only native clients have it. (pymemstore ignored surplus arguments, and so does a host for legacy clients.) */
  native?: true;
}

/** A command without its name, under which it is listed. */
export interface Description {
  /** Its arguments, in their order. */
  args: readonly Arg[];
  /** One line, for people. */
  help: string;
  /** The right that a client needs. */
  needs: Right;
  /** The shape of its reply. */
  reply: ReplyShape;
  /** It may take long: the client sends it in a message of its own, so that other replies do not wait for it. */
  slow: boolean;
  /** Whether a batch may hold it: it can be rolled back, or changes nothing. */
  batch: boolean;
  /** Its first argument is the name of a table or set, and its second is looked up there. */
  finds?: "tables" | "sets";
}

/** A command as it is listed. */
export interface Command extends Description {
  /** Its name. */
  name: string;
}

/** Describes a command. By default it is quick, replies a value, and may be in a batch. */
export function describe(
  needs: Right,
  args: readonly Arg[],
  help: string,
  { reply = "value", slow = false, batch = true, finds }: Partial<Description> = {},
): Description {
  return { needs, args, help, reply, slow, batch, finds };
}

const of = (type: ArgType) => (name: string): Arg => ({ name, type });

export const string: (name: string) => Arg = of("string");
export const key: (name: string) => Arg = of("key");
export const keys: (name: string) => Arg = of("keys");
export const entries: (name: string) => Arg = of("entries");
export const number: (name: string) => Arg = of("number");
export const seconds: (name: string) => Arg = of("seconds");
export const uint32: (name: string) => Arg = of("uint32");

/** A switch. Its help says what it does when it is on. */
export const bool = (name: string, help: string): Arg => ({ name, type: "bool", help });

/** Any value. */
export const any = (name: string): Arg => ({ name });

/** An optional argument. Those that follow it are optional too. */
export const optional = (arg: Arg): Arg => ({ ...arg, optional: true });

/** A command and its arguments, as people write it. */
export function usage({ name, args }: Pick<Command, "name" | "args">): string {
  return [name, ...args.map((arg) => arg.optional ? `[${arg.name}]` : arg.name)].join(" ");
}
