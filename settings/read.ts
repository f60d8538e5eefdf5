/**
 * The settings that hold: a flag wins over the settings file, the file over the environment, the environment
 * over the default.
 *
 * @module
 */

import { parse, problem, SettingsError } from "./error.ts";
import type { SettingsFile } from "./file.ts";
import { type Settings, settings } from "./table.ts";

/** The environment variable that names the settings file. */
export const CONFIG_ENV = "MEMSTORE_CONFIG";

/** Settings, and what should be changed about them. */
export interface Read {
  settings: Settings;
  warnings: string[];
}

/**
 * Gathers the settings.
 *
 * @param flags The values that were given as flags, by the whole keys of their settings.
 * @param path The settings file; left out: what {@linkcode CONFIG_ENV} names, if anything.
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
    // The parser is needed for a file alone.
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
  if (values.has("storeEvery") && !values.has("state") && problems.length === 0) {
    const where = file?.values.has("storeEvery") ? `${path}: ` : "";
    problems.push(where + problem("storeEvery", "it needs the setting state, which says where to store"));
  }
  if (problems.length > 0) throw new SettingsError(problems);
  return { settings: nested(values), warnings: file?.warnings ?? [] };
}

/**
 * What a client of the command line is told by the settings file and the environment; what else they say is
 * not looked at.
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

/** What the environment says of a setting; an empty variable says nothing. */
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
