/**
 * Completion of a line at the prompt: names of commands, tables and sets, keys and members.
 *
 * The name of an argument in the list of commands decides what completes it: `table`, `set`, `key`, or `value` in a
 * command on a set. This applies to custom commands of the host too.
 *
 * @module
 */

import type { CommandInfo } from "../commands/list.ts";
import type { RawCommand } from "./remote.ts";
import { textOf, typed, valueOf, type Word, words } from "./words.ts";

/** The keys of larger tables and the members of larger sets are not fetched. */
const CHEAP = 1000;

/** Where completion gets its candidates. */
export interface Source {
  /** The commands that can be typed. */
  commands(): Promise<readonly CommandInfo[]>;
  /** Sends a command to the host. */
  send(command: RawCommand): Promise<unknown>;
}

/** The candidates for the last word of a line, and that word, as `node:readline` needs them. */
export async function complete(line: string, source: Source): Promise<[candidates: string[], begun: string]> {
  const before = words(line);
  const last = before.at(-1);
  // A word goes on until a space follows it.
  const goesOn = last !== undefined && (!last.closed || last.start + last.source.length === line.length);
  const begun = goesOn ? before.pop()!.source : "";
  const values = await candidates(before, source).catch(() => []);
  const found = values.map((value) => typed(value, begun)).filter((text) => text.startsWith(begun));
  return [found.length === 1 ? [`${found[0]} `] : found, begun];
}

/** The values that may follow the words. */
async function candidates(before: Word[], source: Source): Promise<unknown[]> {
  const commands = await source.commands();
  const [first, ...rest] = before;
  if (!first) return commands.map(({ name }) => name);
  const name = textOf(first);
  if (name === "help") return rest.length === 0 ? commands.map(({ name }) => name) : [];
  const args = commands.find((command) => command.name === name)?.args ?? [];
  // (The host keeps them in no order.)
  const ask = async (command: RawCommand) =>
    (await source.send(command) as unknown[]).sort((a, b) => typed(a, "") < typed(b, "") ? -1 : 1);
  const askIfCheap = async (count: string, list: string) => {
    const of = valueOf(rest[0]);
    if ((await source.send([count, of]) as number) > CHEAP) return [];
    return await ask([list, of]);
  };
  switch (args[rest.length]) {
    case "table":
      return ask(["tables"]);
    case "set":
      return ask(["sets"]);
    case "key":
      return args[0] === "table" ? askIfCheap("size", "keys") : [];
    case "value":
      return args[0] === "set" ? askIfCheap("set_size", "list_set") : [];
    default:
      return [];
  }
}
