/**
 * The kinds of values that settings have: the JSON types that a file may use, and how a value is parsed.
 *
 * @module
 */

import { resolve } from "node:path";
import { isKey } from "../auth/curve.ts";
import { address } from "../transport/endpoint.ts";

/** A setting as it is written: JSON in a file, text in a flag or an environment variable. */
export type Written = string | number | boolean | readonly string[];

/** A kind of values. */
export interface Kind<Value> {
  /** The JSON types that a file may use. */
  readonly types: readonly ("string" | "number" | "boolean" | "array of strings")[];
  /**
   * Parses JSON of one of the types, or any text. Relative paths start at the directory.
   *
   * @throws {TypeError} if it is not of this kind.
   */
  parse(written: Written, directory: string): Value;
}

/** The longest that a JavaScript timer can wait: 24 days. */
const MAX_MILLISECONDS = 2 ** 31 - 1;
const MILLISECONDS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const UNITS = ["B", "KB", "MB", "GB", "TB"];

/** A text that is not empty. */
export const text: Kind<string> = {
  types: ["string"],
  parse(written) {
    if (written === "") throw new TypeError("it must not be empty");
    return String(written);
  },
};

/** What keys in Redis begin with. (Braces would decide on the node of a key.) */
export const prefix: Kind<string> = {
  types: ["string"],
  parse(written) {
    if (/^[^{}\s]{1,64}$/.test(String(written))) return String(written);
    throw new TypeError("it must have 1 to 64 characters, without spaces and braces");
  },
};

/** A path. A relative one starts at the directory. */
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

/** The numbers of a kind that are in a range. */
export function within(kind: Kind<number>, [least, most]: readonly [number, number]): Kind<number> {
  return {
    types: kind.types,
    parse(written, directory) {
      const value = kind.parse(written, directory);
      if (value < least || value > most) throw new TypeError(`it must be from ${least} to ${most}`);
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

/** One endpoint or several. A relative path starts at the directory. */
export const endpoints: Kind<string[]> = {
  types: ["string", "array of strings"],
  parse(written, directory) {
    const all = [written].flat().map(String);
    if (all.length === 0) throw new TypeError("at least one endpoint is needed");
    return all.map((each) => endpoint.parse(each, directory));
  },
};

/** An endpoint. A relative path starts at the directory. */
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
    // (That its directory cannot be used is reported when the host starts.)
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
      throw new Complete("it must not contain a name and a password");
    }
    return String(written);
  },
};

const NODE = String.raw`(?:\[[\da-f:.]+\]|[^\s@/:,[\]]+)(?::\d{1,5})?`;
const ENGINE = new RegExp(`^(?:memory|rediss?://(?:[^\\s@/]*@)?${NODE}(?:,${NODE})*/?)$`, "i");

/** What holds the data: `memory`, or servers of Redis, `redis://user:password@host:port,host:port`. */
export const engine: Kind<string> = {
  types: ["string"],
  parse(written) {
    const engine = String(written);
    if (ENGINE.test(engine)) return engine;
    const why = "memory, or servers such as redis://host:7101,host:7102 are needed";
    throw engine.includes("@") ? new Complete(why) : new TypeError(why);
  },
};

/** Whether the URL of an engine has a password in it. */
export function hasPassword(engine: string): boolean {
  return /^\w+:\/\/[^@]*:[^@]+@/.test(engine);
}

/** An error whose text is complete: the value is in it, or must not be shown. */
export class Complete extends TypeError {}

/** One of several words. */
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
