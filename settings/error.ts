/**
 * Errors in settings.
 *
 * @module
 */

import { Complete, type Written } from "./kinds.ts";
import type { Setting } from "./list.ts";

/** Settings that cannot be used. */
export class SettingsError extends Error {
  /** Everything that is wrong with them, a line each. */
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join("\n"));
    this.problems = problems;
  }
}

/** The text for one error. `received` must not be given for a secret. */
export function problem(key: string, why: string, received?: string): string {
  return `Cannot set ${key}: ${why}${received === undefined ? "" : `: received ${received}`}`;
}

/**
 * The value of a setting.
 *
 * @throws {SettingsError} if the setting cannot have what is written. The text shows no secret.
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
