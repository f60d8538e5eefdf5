/**
 * What memstore says where Deno denies it something: a sentence that names the flag to run it with.
 *
 * @module
 */

/** The flags, as narrow as they can be, by the names that Deno gives to permissions. */
const FLAGS: Record<string, string> = {
  ffi: "--allow-ffi",
  read: "--allow-read",
  write: "--allow-write",
  env: "--allow-env=XDG_RUNTIME_DIR,TMPDIR,TMP,TEMP",
  sys: "--allow-sys=uid",
};

/**
 * The error to throw instead of one that Deno threw since a permission is missing; undefined for other errors.
 *
 * @param what What cannot be done, as in "use the runtime directory".
 */
export function missingPermission(what: string, error: unknown): Error | undefined {
  // (A package may wrap Deno's error in one of its own.)
  const [, name = ""] = /\bRequires (\w+) access\b/.exec(error instanceof Error ? error.message : "") ?? [];
  const flag = FLAGS[name];
  if (flag === undefined) return undefined;
  return new Deno.errors.NotCapable(`Cannot ${what}: a permission is missing: run it with ${flag}`, {
    cause: error,
  });
}

/**
 * Does what needs permissions.
 *
 * @throws {Deno.errors.NotCapable} that names the flag, if one is missing.
 */
export function withPermission<Result>(what: string, work: () => Result): Result {
  try {
    return work();
  } catch (error) {
    throw missingPermission(what, error) ?? error;
  }
}
