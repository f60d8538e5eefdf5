/**
 * `memstore config`: checks a settings file, or writes a new one.
 *
 * @module
 */

import { SettingsError } from "../settings/error.ts";
import { example } from "../settings/init.ts";
import { readSettings } from "../settings/read.ts";
import { checkClients } from "../auth/clients.ts";
import { readKeys } from "../auth/curve.ts";
import { complain, print, visible, write } from "./output.ts";

/**
 * Checks whether `memstore serve --config FILE` can use the settings on this machine, with this environment and
 * without flags.
 *
 * @throws {SettingsError} that lists all errors.
 */
export async function check(path: string): Promise<void> {
  const { settings: { key, authorizedClients }, warnings } = await readSettings(new Map(), path);
  const problems: string[] = [];
  const attempt = async (use: () => unknown) => {
    try {
      await use();
    } catch (error) {
      problems.push(`${path}: ${error instanceof Error ? error.message : error}`);
    }
  };
  if (key !== undefined) await attempt(() => readKeys(key));
  if (authorizedClients !== undefined) await attempt(() => checkClients(authorizedClients));
  if (problems.length > 0) throw new SettingsError(problems);
  warnings.forEach(complain);
  print(`${visible(path)} is fine`);
}

/** Writes the example to a new file that only its owner can read. Prints it if no file is named. */
export function init(path?: string): void {
  if (path === undefined) return write(Deno.stdout, example());
  try {
    Deno.writeTextFileSync(path, example(), { createNew: true, mode: 0o600 });
  } catch (error) {
    const why = error instanceof Deno.errors.AlreadyExists ? "it exists already" : (error as Error).message;
    throw new Error(`Cannot write the settings file: ${why}: received ${path}`);
  }
}
