/**
 * What is wrong with settings.
 *
 * @module
 */

import { Complete, type Written } from "./kinds.ts";
import type { Setting } from "./table.ts";

/** Settings that cannot be used: everything that is wrong with them, a line each. */
export class SettingsError extends Error {
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join("\n"));
    this.problems = problems;
  }
}

/** What is wrong with a setting; `received` leaves out what is secret. */
export function problem(key: string, why: string, received?: string): string {
  return `Cannot take ${key}: ${why}${received === undefined ? "" : `: received ${received}`}`;
}

/**
 * The value of a setting.
 *
 * @throws {SettingsError} if what is written cannot be one. It shows no secret.
 */
export function parse(key: string, setting: Setting<unknown>, written: Written, directory: string): unknown {
  try {
    return setting.kind.parse(written, directory);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    const hidden = setting.secret || error instanceof Complete;
    throw new SettingsError([problem(key, error.message, hidden ? undefined : JSON.stringify(written))]);
  }
}
