/**
 * `memstore config`: checks a settings file, and writes a first one.
 *
 * @module
 */

import { example } from "../settings/init.ts";
import { readSettings } from "../settings/read.ts";
import { complain, print, write } from "./output.ts";

/**
 * Tells whether `memstore serve --config FILE` would take the settings, here and now: with this environment,
 * and no flags.
 *
 * @throws {SettingsError} with everything that is wrong with them.
 */
export async function check(path: string): Promise<void> {
  const { warnings } = await readSettings(new Map(), path);
  warnings.forEach(complain);
  print(`${path} is fine`);
}

/** Writes the example to a new file that its owner alone can read; prints it if none is named. */
export function init(path?: string): void {
  if (path === undefined) return write(Deno.stdout, example());
  try {
    Deno.writeTextFileSync(path, example(), { createNew: true, mode: 0o600 });
  } catch (error) {
    const why = error instanceof Deno.errors.AlreadyExists ? "it is there already" : (error as Error).message;
    throw new Error(`Cannot write the settings file: ${why}: received ${path}`);
  }
}
