/**
 * The settings file: JSON with comments and trailing commas. Errors name the file, the line and the key.
 *
 * Relative paths in it start at the directory of the file, so that it means the same wherever the host is
 * started. (A relative `state` always starts at the data directory.)
 *
 * @module
 */

import { dirname, resolve } from "node:path";
import {
  getLocation,
  type Node,
  type ParseError,
  parseTree,
  printParseErrorCode,
} from "npm:jsonc-parser@3.3.1";
import { parse, problem, SettingsError } from "./error.ts";
import type { Written } from "./kinds.ts";
import { nearest } from "./nearest.ts";
import { type Group, isSetting, type Setting, settings, table } from "./list.ts";

/** What a settings file says. */
export interface SettingsFile {
  /** The values, by the full keys of their settings. */
  values: Map<string, unknown>;
  /** Problems that are no errors, a line each. */
  warnings: string[];
}

/**
 * Reads a settings file.
 *
 * @throws {SettingsError} with everything that is wrong with it.
 */
export function readFile(path: string): SettingsFile {
  const { text, mode } = open(path);
  const values = parseFile(text, path);
  const holdsSecret = ([key, value]: [string, unknown]) => {
    const { secret, hasSecret } = settings.get(key)!;
    return secret ?? hasSecret?.(value);
  };
  const [secret] = [...values].find(holdsSecret) ?? [];
  const warnings = secret !== undefined && (mode & 0o077) !== 0
    ? [`${path} holds ${secret}, and other users can read or write it: run chmod 600 ${path}`]
    : [];
  return { values, warnings };
}

function open(path: string): { text: string; mode: number } {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(Deno.readFileSync(path));
    return { text, mode: Deno.statSync(path).mode ?? 0 };
  } catch (error) {
    const why = error instanceof Deno.errors.NotFound
      ? "it does not exist"
      : error instanceof TypeError
      ? "it is not UTF-8 text"
      : (error as Error).message;
    throw new SettingsError([`Cannot read the settings file: ${why}: received ${path}`]);
  }
}

/**
 * The values in the text of a settings file, by the full keys of their settings.
 *
 * @throws {SettingsError} with everything that is wrong with it.
 */
export function parseFile(text: string, path: string): Map<string, unknown> {
  const values = new Map<string, unknown>();
  const problems: string[] = [];
  const lineOf = (offset: number) => text.slice(0, offset).split("\n").length;
  const complain = (offset: number, text: string) => problems.push(`${path}:${lineOf(offset)}: ${text}`);

  const errors: ParseError[] = [];
  const root = parseTree(text, errors, { allowTrailingComma: true });
  if (errors.length > 0) {
    // One error causes others behind it: the first of each line is reported.
    const first = errors.filter(({ offset }, i) =>
      i === 0 || lineOf(offset) !== lineOf(errors[i - 1].offset)
    );
    for (const error of first) complain(error.offset, syntax(text, error));
    throw new SettingsError(problems);
  }

  /** Takes the members of an object that is one of the table's groups. */
  const take = (object: Node, group: Group, prefix: string) => {
    const seen = new Map<string, number>();
    for (const { children: [name, value] = [] } of object.children ?? []) {
      const key = prefix + name.value;
      const before = seen.get(name.value);
      seen.set(name.value, name.offset);
      const entry = Object.hasOwn(group, name.value) ? group[name.value] : undefined;
      if (before !== undefined) {
        complain(name.offset, problem(key, `it is set twice, first in line ${lineOf(before)}`));
      } else if (!entry) {
        complain(name.offset, problem(key, `there is no such setting${hint(key)}`));
      } else if (isSetting(entry)) {
        takeValue(value, entry, key);
      } else if (value.type === "object") {
        take(value, entry, `${key}.`);
      } else {
        complain(value.offset, problem(key, "an object is needed", typeOf(value)));
      }
    }
  };
  const takeValue = (node: Node, setting: Setting<unknown>, key: string) => {
    const { types } = setting.kind;
    if (!types.some((type) => type === typeOf(node))) {
      const wanted = types.map((type) => `${type === "array of strings" ? "an" : "a"} ${type}`).join(" or ");
      complain(node.offset, problem(key, `${wanted} is needed`, typeOf(node)));
      return;
    }
    try {
      values.set(key, parse(key, setting, writtenOf(node), dirname(resolve(path))));
    } catch (error) {
      if (!(error instanceof SettingsError)) throw error;
      complain(node.offset, error.message);
    }
  };

  if (root?.type === "object") take(root, table, "");
  else complain(root?.offset ?? 0, `Cannot read the settings: an object is needed: received ${typeOf(root)}`);
  if (problems.length > 0) throw new SettingsError(problems);
  return values;
}

/** A syntax error, and the setting that it is in. */
function syntax(text: string, { error, offset }: ParseError): string {
  // `CommaExpected` → `comma expected`
  const why = printParseErrorCode(error).replace(/\B[A-Z]/g, " $&").toLowerCase();
  const key = getLocation(text, offset).path.join(".");
  return `Cannot read the settings: it is not valid JSON${key === "" ? "" : `, in or after ${key}`}: ${why}`;
}

/** The type of a node, as the kinds call it. */
function typeOf(node: Node | undefined): string {
  if (!node) return "nothing";
  const strings = node.type === "array" && node.children?.every(({ type }) => type === "string");
  return strings ? "array of strings" : node.type;
}

function writtenOf(node: Node): Written {
  return node.type === "array" ? (node.children ?? []).map(({ value }) => value) : node.value;
}

function hint(key: string): string {
  const found = nearest(key, [...settings.keys()]);
  if (found === undefined) return "";
  const [first, second] = found.split(".");
  return second === undefined ? `, did you mean "${first}"?` : `, did you mean "${second}" in "${first}"?`;
}
