/**
 * Who may connect with which rights: a file, read again when it changes.
 *
 * One client a line: its public key, its right, and its name, for the log. `#` begins a comment.
 *
 * ```text
 * # key                                    right  name
 * hpoHeBST+wReB#P)/xHGVC<V{UCsvH90{zAc!<jT write  worker on the second machine
 * ```
 *
 * `read` may not change anything; `write` may not store, restore, or stop the host; `admin` may do all.
 *
 * @module
 */

import { isKey } from "./curve.ts";

/** What a client may do: not change anything; not store, restore or stop; or all. */
export type Right = "read" | "write" | "admin";

/** The rights, each with what those before it allow. */
export const RIGHTS: readonly Right[] = ["read", "write", "admin"];

/** A client that may connect. */
export interface Client {
  readonly right: Right;
  readonly name: string;
}

/** How often the file is looked at, in milliseconds. */
const LOOK_MS = 100;

/** The clients of a file. */
export class Clients {
  readonly #path: string;
  readonly #failed: (why: string) => void;
  #clients: Map<string, Client>;
  #version: string;
  #looked = 0;

  /**
   * @param failed Told when the file has changed and cannot be read: until it can be, what it said holds.
   * @throws {Error} that names the line that is wrong.
   */
  constructor(path: string, failed: (why: string) => void) {
    this.#path = path;
    this.#failed = failed;
    this.#version = this.#stamp();
    this.#clients = this.#read();
  }

  /** The client of a public key; undefined if it may not connect. */
  find(publicKey: string): Client | undefined {
    const now = performance.now();
    if (now - this.#looked > LOOK_MS) {
      this.#looked = now;
      const version = this.#stamp();
      if (version !== this.#version) {
        this.#version = version;
        try {
          this.#clients = this.#read();
        } catch (error) {
          this.#failed(error instanceof Error ? error.message : String(error));
        }
      }
    }
    return this.#clients.get(publicKey);
  }

  /** Differs when the file does. */
  #stamp(): string {
    try {
      const { mtime, ino, size } = Deno.statSync(this.#path);
      return `${Number(mtime)} ${ino} ${size}`;
    } catch {
      return "none";
    }
  }

  #read(): Map<string, Client> {
    const wrong = (why: string, line?: number): never => {
      const where = line === undefined ? this.#path : `${this.#path}:${line}`;
      throw new Error(`Cannot read the authorized clients: ${where}: ${why}`);
    };
    let text = "";
    try {
      text = Deno.readTextFileSync(this.#path);
    } catch (error) {
      wrong((error as Error).message);
    }
    const clients = new Map<string, Client>();
    for (const [i, line] of text.split("\n").entries()) {
      const [key, right, ...name] = line.trim().split(/\s+/);
      // (A key may hold a #, and begin with one: a comment stands alone, or after a space.)
      if (key === "" || (key.startsWith("#") && !isKey(key))) continue;
      if (!isKey(key)) wrong("it must begin with a public key, 40 characters of Z85", i + 1);
      const found = RIGHTS.find((each) => each === right);
      if (!found) return wrong(`the right must be read, write or admin: received ${right ?? "none"}`, i + 1);
      if (clients.has(key)) wrong("the key is there twice", i + 1);
      clients.set(key, { right: found, name: name.join(" ").replace(/\s*#.*$/, "") || key });
    }
    return clients;
  }
}
