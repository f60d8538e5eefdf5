/**
 * Writes the references in docs/commands.md and docs/settings.md: `deno task docs`.
 *
 * Each is written between two markers of its file, from the list of commands or of settings; the text around it is
 * written by hand. Names, arguments and help are those that the host uses. A command's reply is the return type that
 * the `Commands` interface declares: it is read from the source, since types are gone when the program runs.
 *
 * @module
 */

import { CommandMethods } from "../client/methods.ts";
import { type Arg, type Command, usage } from "../commands/describe.ts";
import { commands } from "../commands/list.ts";
import { settings } from "../settings/list.ts";

const ROOT = new URL("..", import.meta.url);

/** The pages with a reference, by their paths, and how each reference is written. */
const pages: Readonly<Record<string, () => Promise<string>>> = {
  "docs/commands.md": commandReference,
  "docs/settings.md": () => Promise.resolve(settingReference()),
};

/** The text of each page as it is, and as it would be with its reference up to date, by its path. */
export async function render(): Promise<Map<string, { now: string; upToDate: string }>> {
  const rendered = new Map<string, { now: string; upToDate: string }>();
  for (const [path, reference] of Object.entries(pages)) {
    const now = await Deno.readTextFile(new URL(path, ROOT));
    rendered.set(path, { now, upToDate: insert(path, now, await reference()) });
  }
  return rendered;
}

const OPENING = "<!-- reference: written by `deno task docs` -->", CLOSING = "<!-- /reference -->";

/** Puts a reference between the markers of a page. */
function insert(path: string, page: string, reference: string): string {
  const begin = page.indexOf(OPENING), end = page.indexOf(CLOSING);
  if (begin < 0 || end < begin) {
    throw new Error(`Cannot write the reference: ${path} needs the lines ${OPENING} and ${CLOSING}`);
  }
  return `${page.slice(0, begin + OPENING.length)}\n\n${reference}\n${page.slice(end)}`;
}

/** What a command is about: the heading under which it is listed. */
function topic({ name, args: [first] }: Command): string {
  if (name === "tables" || first?.name === "table") return "Tables";
  if (name === "sets" || first?.name === "set" || first?.name === "sets") return "Sets";
  return /store$/.test(name) || name === "transfers" ? "The state" : "The host";
}

async function commandReference(): Promise<string> {
  const source = await Deno.readTextFile(new URL("commands/list.ts", ROOT));
  const topics = Map.groupBy(commands, topic);
  return Array.from(topics, ([title, listed]) => {
    const rows = listed.map((command) => {
      const { name, args, help, needs } = command;
      // (A switch and an optional expiry are options of the method, which returns undefined for what is missing.)
      const isOption = ({ type, optional }: Arg) => type === "bool" || type === "seconds" && optional;
      const names = args.filter((arg) => arg.name !== "missing")
        .map((arg) => isOption(arg) ? `{ ${arg.name} }` : arg.name);
      const method = camelCase(name);
      const call = method in CommandMethods.prototype ? code(`${method}(${names.join(", ")})`) : "";
      return [code(usage(command)), help, needs, call, code(replyType(name, source))];
    });
    return `## ${title}\n\n${aligned(["Command", "What it does", "Right", "TypeScript", "Reply"], rows)}`;
  }).join("\n");
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
function replyType(name: string, source: string): string {
  const body = /export interface Commands \{(.*?)^\}/ms.exec(source)?.[1] ?? "";
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
  for (const [path, { upToDate }] of await render()) {
    await Deno.writeTextFile(new URL(path, ROOT), upToDate);
  }
}
