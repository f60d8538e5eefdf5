/**
 * Writes the README's references, each between its two markers, from the tables of the commands and of the
 * settings: `deno task docs`.
 *
 * Names, arguments and help are those that the host uses. The reply of a command is the return type that the
 * `Commands` interface declares, taken from its text, since types are gone when the program runs.
 *
 * @module
 */

import { type Arg, usage } from "../commands/describe.ts";
import { commands } from "../commands/list.ts";
import { settings } from "../settings/list.ts";

const ROOT = new URL("..", import.meta.url);

/**
 * A README with its references brought up to date.
 *
 * @throws {Error} if a marker is missing, or a command has no line in `Commands`.
 */
export function render(readme: string, tableSource: string): string {
  return insert(insert(readme, "commands", commandReference(tableSource)), "settings", settingReference());
}

function insert(readme: string, name: string, reference: string): string {
  const opening = `<!-- ${name}: written by \`deno task docs\` -->`, closing = `<!-- /${name} -->`;
  const begin = readme.indexOf(opening), end = readme.indexOf(closing);
  if (begin < 0 || end < begin) {
    throw new Error(`Cannot write the reference: README.md needs the lines ${opening} and ${closing}`);
  }
  return `${readme.slice(0, begin + opening.length)}\n\n${reference}\n${readme.slice(end)}`;
}

function commandReference(tableSource: string): string {
  const rows = commands.map((command) => {
    const { name, args, help } = command;
    // (What is on or off, and an expiry that may be left out, are options of the method.)
    const isOption = ({ type, optional }: Arg) => type === "bool" || type === "seconds" && optional;
    const names = args.map((arg) => isOption(arg) ? `{ ${arg.name} }` : arg.name);
    const method = `${camelCase(name)}(${names.join(", ")})`;
    return [code(usage(command)), help, code(method), code(replyType(name, tableSource))];
  });
  return aligned(["Command", "What it does", "TypeScript", "Reply"], rows);
}

function settingReference(): string {
  const rows = Array.from(settings, ([key, { flag, env, help, default: standard }]) => [
    code(key),
    flag === undefined ? "" : code(flag),
    code(env),
    standard === undefined ? "" : code(String(standard)),
    help,
  ]);
  return aligned(["Setting", "Flag", "Environment", "Default", "What it is"], rows);
}

/** A table, aligned as `deno fmt` would. */
function aligned(head: string[], rows: string[][]): string {
  const widths = head.map((title, i) =>
    Math.max(...[title, ...rows.map((row) => row[i])].map((text) => text.length))
  );
  const line = (row: string[]) => `| ${row.map((text, i) => text.padEnd(widths[i])).join(" | ")} |\n`;
  return [head, widths.map((width) => "-".repeat(width)), ...rows].map(line).join("");
}

/** The return type of a command: `  name(table: unknown): 0 | 1;` in the interface `Commands`. */
function replyType(name: string, tableSource: string): string {
  const body = /export interface Commands \{(.*?)^\}/ms.exec(tableSource)?.[1] ?? "";
  const found = new RegExp(`^ {2}${name}\\([^;]*?\\): (.+);$`, "m").exec(body);
  if (!found) throw new Error(`Cannot write the reference: Commands has no line for ${name}`);
  return found[1];
}

/** `in_set` → `inSet`. */
function camelCase(name: string): string {
  return name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
}

function code(text: string): string {
  return `\`${text.replaceAll("|", "\\|")}\``;
}

if (import.meta.main) {
  const readme = new URL("README.md", ROOT);
  const source = await Deno.readTextFile(new URL("commands/list.ts", ROOT));
  await Deno.writeTextFile(readme, render(await Deno.readTextFile(readme), source));
}
