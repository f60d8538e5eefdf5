/**
 * Writes the README's command reference, between its two markers, from the command table: `deno task docs`.
 *
 * Names, arguments and help are those that the host uses. The reply is the return type that the `Commands`
 * interface declares, taken from its text, since types are gone when the program runs.
 *
 * @module
 */

import { usage } from "../commands/dispatch.ts";
import { commands } from "../commands/table.ts";

const ROOT = new URL("..", import.meta.url);
const BEGIN = "<!-- commands: written by `deno task docs` -->";
const END = "<!-- /commands -->";

/**
 * A README with its command reference brought up to date.
 *
 * @throws {Error} if a marker is missing, or a command has no line in `Commands`.
 */
export function render(readme: string, tableSource: string): string {
  const begin = readme.indexOf(BEGIN), end = readme.indexOf(END);
  if (begin < 0 || end < begin) {
    throw new Error(`Cannot write the reference: README.md needs the lines ${BEGIN} and ${END}`);
  }
  return `${readme.slice(0, begin + BEGIN.length)}\n\n${reference(tableSource)}\n${readme.slice(end)}`;
}

function reference(tableSource: string): string {
  const rows = commands.map((command) => {
    const { name, args, help } = command;
    const method = `${camelCase(name)}(${args.map((arg) => arg.name).join(", ")})`;
    return [code(usage(command)), help, code(method), code(replyType(name, tableSource))];
  });
  const head = ["Command", "What it does", "TypeScript", "Reply"];
  // Aligned as `deno fmt` would.
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
  const source = await Deno.readTextFile(new URL("commands/table.ts", ROOT));
  await Deno.writeTextFile(readme, render(await Deno.readTextFile(readme), source));
}
