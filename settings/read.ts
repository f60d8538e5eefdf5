/**
 * The effective settings: a flag overrides the settings file, the file overrides the environment, and the
 * environment overrides the default.
 *
 * @module
 */

import { parse, problem, SettingsError } from "./error.ts";
import type { SettingsFile } from "./file.ts";
import { type Settings, settings } from "./list.ts";

/** The environment variable that names the settings file. */
export const CONFIG_ENV = "MEMSTORE_CONFIG";

/** Effective settings. */
export interface Read {
  settings: Settings;
  /** Problems that are no errors, a line each. */
  warnings: string[];
}

/**
 * Gathers the settings.
 *
 * @param flags The values that were given as flags, by the full keys of their settings.
 * @param path The settings file; left out: the one that {@linkcode CONFIG_ENV} names, if any.
 * @throws {SettingsError} with everything that is wrong with them.
 */
export async function readSettings(
  flags: ReadonlyMap<string, unknown>,
  path: string | undefined = Deno.env.get(CONFIG_ENV) || undefined,
): Promise<Read> {
  const problems: string[] = [];
  const attempt = <Result>(read: () => Result): Result | undefined => {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof SettingsError)) throw error;
      problems.push(...error.problems);
    }
  };
  let file: SettingsFile | undefined;
  if (path !== undefined) {
    // (The parser is loaded only where there is a file.)
    const { readFile } = await import("./file.ts");
    file = attempt(() => readFile(path));
  }
  const values = new Map<string, unknown>();
  for (const [key, setting] of settings) {
    const { default: standard } = setting;
    const value = flags.get(key) ?? file?.values.get(key) ?? attempt(() => fromEnvironment(key)) ??
      (standard === undefined ? undefined : parse(key, setting, standard, Deno.cwd()));
    if (value !== undefined) values.set(key, value);
  }
  if (problems.length === 0) {
    const from = (key: string) =>
      flags.has(key) ? "" : file?.values.has(key) ? `${path}: ` : `${settings.get(key)!.env}: `;
    problems.push(...conflicts(values).map(({ key, why }) => from(key) + problem(key, why)));
  }
  if (problems.length > 0) throw new SettingsError(problems);
  const warnings = file?.warnings ?? [];
  for (const [key, value] of flags) {
    const setting = settings.get(key);
    if (!setting?.hasSecret?.(value)) continue;
    const where = `set it in a settings file or as ${setting.env}`;
    warnings.push(`The flag of ${key} holds a password, which other users of the machine can see: ${where}`);
  }
  return { settings: nested(values), warnings };
}

/** Settings that are each valid, but do not fit each other or the files that are there. */
function conflicts(values: ReadonlyMap<string, unknown>): { key: string; why: string }[] {
  const found: { key: string; why: string }[] = [];
  const needs = (key: string, other: string, what: string) => {
    if (values.has(key) && !values.has(other)) {
      found.push({ key, why: `it needs the setting ${other}, ${what}` });
    }
  };
  needs("storeEvery", "state", "which says where to store");
  needs("key", "authorizedClients", "which lists who may connect");
  needs("authorizedClients", "key", "without which no client is asked for a key");
  if (values.get("engine") !== "memory") {
    const why = {
      state: "Redis keeps the data, use store and restore for copies of it",
      maxMemory: "Redis has the data, set its own maxmemory",
    };
    for (const [key, instead] of Object.entries(why)) {
      if (values.has(key)) found.push({ key, why: `only the engine memory has it: ${instead}` });
    }
  }
  const directory = values.get("dataDir") as string | undefined;
  if (directory !== undefined && !isDirectory(directory)) {
    found.push({ key: "dataDir", why: `there is no such directory, make it first: received ${directory}` });
  }
  return found;
}

function isDirectory(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

/**
 * The settings of the command line as a client. The other settings in the file and the environment are not used.
 *
 * @throws {SettingsError} with everything that is wrong with the file, or with what the environment says.
 */
export async function readClientSettings(
  path: string | undefined = Deno.env.get(CONFIG_ENV) || undefined,
): Promise<Settings["client"]> {
  const values = path === undefined ? undefined : (await import("./file.ts")).readFile(path).values;
  const found = new Map<string, unknown>();
  for (const key of settings.keys()) {
    if (!key.startsWith("client.")) continue;
    const value = values?.get(key) ?? fromEnvironment(key);
    if (value !== undefined) found.set(key, value);
  }
  return nested(found).client;
}

/** The value of a setting in the environment. An empty variable counts as not set. */
function fromEnvironment(key: string): unknown {
  const setting = settings.get(key)!;
  const text = Deno.env.get(setting.env);
  if (!text) return undefined;
  try {
    return parse(key, setting, text, Deno.cwd());
  } catch (error) {
    throw error instanceof SettingsError ? new SettingsError([`${setting.env}: ${error.message}`]) : error;
  }
}

/** `s3.region` → `{ s3: { region } }`. */
function nested(values: Map<string, unknown>): Settings {
  const result: Record<string, unknown> = {};
  for (const key of settings.keys()) {
    const names = key.split(".");
    const last = names.pop()!;
    const group = names.reduce((group, name) => (group[name] ??= {}) as Record<string, unknown>, result);
    if (values.has(key)) group[last] = values.get(key);
  }
  return result as unknown as Settings;
}
