/**
 * The kinds of values that settings have: which JSON a file may say them in, and how they are read.
 *
 * @module
 */

import { resolve } from "node:path";
import { isKey } from "../wire/curve.ts";
import { address } from "../wire/endpoint.ts";

/** What a setting can be written as: JSON in a file, text in a flag or an environment variable. */
export type Written = string | number | boolean | readonly string[];

/** A kind of values. */
export interface Kind<Value> {
  /** What JSON calls the types it may be written in. */
  readonly types: readonly ("string" | "number" | "boolean" | "array of strings")[];
  /**
   * Reads a value: JSON of one of the types, or any text. Relative paths begin at the directory.
   *
   * @throws {TypeError} if it cannot be one of this kind.
   */
  parse(written: Written, directory: string): Value;
}

/** Timers of JavaScript know no more milliseconds: 24 days. */
const MAX_MILLISECONDS = 2 ** 31 - 1;
const MILLISECONDS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const UNITS = ["B", "KB", "MB", "GB", "TB"];

/** Any text but the empty one. */
export const text: Kind<string> = {
  types: ["string"],
  parse(written) {
    if (written === "") throw new TypeError("a text that is not empty is needed");
    return String(written);
  },
};

/** A path; a relative one begins at the directory. */
export const path: Kind<string> = {
  types: ["string"],
  parse: (written, directory) => resolve(directory, text.parse(written, directory)),
};

/** A public key, or a path. */
export const publicKey: Kind<string> = {
  types: ["string"],
  parse: (written, directory) => isKey(String(written)) ? String(written) : path.parse(written, directory),
};

/** Yes or no. */
export const flag: Kind<boolean> = {
  types: ["boolean"],
  parse(written) {
    if (["true", "1"].includes(String(written))) return true;
    if (["false", "0"].includes(String(written))) return false;
    throw new TypeError("it must be true or false");
  },
};

/** Milliseconds, written `500ms`, `30s`, `5m`, `1h` or `1d`. */
export const duration: Kind<number> = {
  types: ["string"],
  parse(written) {
    const [, number, unit] = /^(\d+(?:\.\d+)?) *(ms|s|m|h|d)$/.exec(String(written)) ?? [];
    if (number === undefined) throw new TypeError("a duration such as 500ms, 30s, 5m or 1h is needed");
    const milliseconds = Math.round(Number(number) * MILLISECONDS[unit]);
    if (milliseconds < 1) throw new TypeError("it must be at least 1ms");
    if (milliseconds > MAX_MILLISECONDS) throw new TypeError("it must be at most 24d");
    return milliseconds;
  },
};

/** An integer. */
export const count: Kind<number> = {
  types: ["number"],
  parse(written) {
    if (!/^\d{1,15}$/.test(String(written))) throw new TypeError("an integer is needed");
    return Number(written);
  },
};

/** Numbers of a kind that are in a range. */
export function within(kind: Kind<number>, [least, most]: readonly [number, number]): Kind<number> {
  return {
    types: kind.types,
    parse(written, directory) {
      const value = kind.parse(written, directory);
      if (value < least || value > most) throw new TypeError(`it must be ${least} to ${most}`);
      return value;
    },
  };
}

/** Bytes, written as a number or `64KB`, `512MB`, `2GB`; `KiB`, `MiB`, `GiB` are the same: powers of 1024. */
export const bytes: Kind<number> = {
  types: ["string", "number"],
  parse(written) {
    const [, number, unit = "B"] = /^(\d+(?:\.\d+)?) *((?:[KMGT]i?)?B)?$/i.exec(String(written)) ?? [];
    const power = UNITS.indexOf(unit.toUpperCase().replace("I", ""));
    const size = Math.floor(Number(number) * 1024 ** power);
    if (!Number.isSafeInteger(size) || size < 1) {
      throw new TypeError("a number of bytes above 0, or a size such as 512MB is needed");
    }
    return size;
  },
};

/** Where a host is reached, or several such places. A relative path begins at the directory. */
export const endpoints: Kind<string[]> = {
  types: ["string", "array of strings"],
  parse(written, directory) {
    const all = [written].flat().map(String);
    if (all.length === 0) throw new TypeError("at least one endpoint is needed");
    return all.map((each) => endpoint.parse(each, directory));
  },
};

/** Where a host is reached. A relative path begins at the directory. */
export const endpoint: Kind<string> = {
  types: ["string"],
  parse(written, directory) {
    const endpoint = String(written);
    checkEndpoint(endpoint);
    return endpoint.includes("/") && !endpoint.includes("://") ? resolve(directory, endpoint) : endpoint;
  },
};

function checkEndpoint(endpoint: string): void {
  try {
    address(endpoint);
  } catch (error) {
    // That a directory cannot be used is no fault of what is written, and told when the host starts.
    if (error instanceof TypeError) throw new Complete(error.message);
  }
}

/** The address of a server, `https://…`. One that holds a password is refused. */
export const url: Kind<string> = {
  types: ["string"],
  parse(written) {
    const found = URL.parse(String(written));
    if (!found || !["http:", "https:"].includes(found.protocol)) {
      throw new TypeError("an address such as https://s3.example.com is needed");
    }
    if (found.username !== "" || found.password !== "") {
      throw new Complete("it may not hold a name and a password");
    }
    return String(written);
  },
};

/** What is wrong with a value, which is not to be shown behind it: it was, or it must not be. */
export class Complete extends TypeError {}

/** One of some words. */
export function oneOf<Word extends string>(...words: readonly Word[]): Kind<Word> {
  return {
    types: ["string"],
    parse(written) {
      const found = words.find((word) => word === written);
      if (found === undefined) throw new TypeError(`it must be one of ${words.join(", ")}`);
      return found;
    },
  };
}
