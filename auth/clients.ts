/**
 * The list of authorized clients, with their rights: a file, which is read again when it changes.
 *
 * One client a line: its public key, its right, and its name, for the log. `#` begins a comment.
 *
 * ```text
 * # key                                    right  name
 * hpoHeBST+wReB#P)/xHGVC<V{UCsvH90{zAc!<jT write  worker on the second machine
 * ```
 *
 * `read` changes nothing; `write` does not store, restore or stop the host; `admin` does everything.
 *
 * **A list that cannot be read whole gives nobody more than before.** Where a line has a fault, a key is there
 * twice, or the file is missing:
 *
 *  - a key that was authorized keeps its right, or the lower one that it has now, if a line that can be read grants
 *    it one (of several lines, the lowest);
 *  - every other key that was authorized is removed;
 *  - no key is added and no right raised until the list can be read whole.
 *
 * A host does not start with such a list.
 *
 * @module
 */

import { isKey } from "./curve.ts";

/** What a client may do: `read` changes nothing; `write` does not store, restore or stop the host; `admin` does everything. */
export type Right = "read" | "write" | "admin";

/** The rights; each allows what those before it allow. */
export const RIGHTS: readonly Right[] = ["read", "write", "admin"];

/** A client that may connect, as the list has it. */
export interface AuthorizedClient {
  readonly right: Right;
  readonly name: string;
}

/** Is told when a list changes. */
export interface AuthorizedClientsEvents {
  /** The list cannot be read whole. The text names each line that has a fault. */
  failed(why: string): void;
  /** These public keys are not authorized any more: their connections must be closed. */
  removed(publicKeys: readonly string[]): void;
}

/** How often it is checked whether the file has changed, in milliseconds. */
const POLL_MS = 100;
/** How many faults of a list an error names. */
const MAX_FAULTS = 5;
/** A file may change twice within one timestamp: while it is younger than this, it is read again. In milliseconds. */
const SETTLE_MS = 1000;

/**
 * Reads a list of clients whole.
 *
 * @throws {Error} that names each line that has a fault.
 */
export function checkClients(path: string): ReadonlyMap<string, AuthorizedClient> {
  const { clients, faults } = read(path);
  if (faults.length > 0) throw new Error(`Cannot read the authorized clients: ${textOf(faults)}`);
  return clients;
}

/** The clients of a file, until {@linkcode AuthorizedClients.close}. */
export class AuthorizedClients {
  readonly #path: string;
  readonly #events: AuthorizedClientsEvents;
  #clients: ReadonlyMap<string, AuthorizedClient>;
  /** The version of the file that was read last. */
  #version: string;
  /** What was wrong with it. */
  #why: string | undefined;
  readonly #timer: ReturnType<typeof setInterval>;

  /**
   * @throws {Error} that names each line that has a fault.
   */
  constructor(path: string, events: AuthorizedClientsEvents) {
    this.#path = path;
    this.#events = events;
    this.#version = version(path);
    this.#clients = checkClients(path);
    // (Also while no message arrives: the connections of removed keys are closed.)
    this.#timer = setInterval(() => this.#poll(), POLL_MS);
    Deno.unrefTimer(this.#timer);
  }

  /** The client of a public key; undefined if it may not connect. */
  find(publicKey: string): AuthorizedClient | undefined {
    return this.#clients.get(publicKey);
  }

  /** Stops reading the file. */
  close(): void {
    clearInterval(this.#timer);
  }

  #poll(): void {
    const found = version(this.#path);
    if (found === this.#version) return;
    this.#version = found;
    const before = this.#clients;
    const { clients, faults } = read(this.#path);
    this.#clients = faults.length === 0 ? clients : lowered(before, clients);
    const why = faults.length === 0 ? undefined : textOf(faults);
    if (why !== undefined && why !== this.#why) {
      this.#events.failed(`${why}: until the list can be read whole, no key is added and no right is raised`);
    }
    this.#why = why;
    const removed = [...before.keys()].filter((key) => !this.#clients.has(key));
    if (removed.length > 0) this.#events.removed(removed);
  }
}

function textOf(faults: readonly string[]): string {
  const more = faults.length - MAX_FAULTS;
  return faults.slice(0, MAX_FAULTS).join("; ") + (more > 0 ? `; and ${more} more` : "");
}

/** Differs whenever the file does. */
function version(path: string): string {
  try {
    const { ctime, mtime, ino, size } = Deno.statSync(path);
    const changed = Number(ctime ?? mtime);
    return `${changed} ${ino} ${size} ${Date.now() - changed < SETTLE_MS ? "unsettled" : "settled"}`;
  } catch {
    return "none";
  }
}

/** The clients on the lines of a file that can be read, and what is wrong with the others. */
function read(path: string): { clients: Map<string, AuthorizedClient>; faults: string[] } {
  const clients = new Map<string, AuthorizedClient>();
  const faults: string[] = [];
  let text = "";
  try {
    text = Deno.readTextFileSync(path);
  } catch (error) {
    faults.push(`${path}: ${(error as Error).message}`);
  }
  for (const [i, line] of text.split("\n").entries()) {
    const fault = (why: string) => faults.push(`${path}:${i + 1}: ${why}`);
    const [key, written, ...name] = line.trim().split(/\s+/);
    // (A key may hold a #, and begin with one: a comment stands alone, or after a space.)
    if (key === "" || (key.startsWith("#") && !isKey(key))) continue;
    const right = RIGHTS.find((each) => each === written);
    if (!isKey(key)) {
      fault("it must begin with a public key, 40 characters of Z85");
    } else if (right === undefined) {
      fault(`the right must be read, write or admin: received ${written ?? "none"}`);
    } else {
      const before = clients.get(key);
      if (before) fault("the key is there twice");
      const client = { right, name: name.join(" ").replace(/\s*#.*$/, "") || key };
      clients.set(key, before ? withLower(before, client) : client);
    }
  }
  return { clients, faults };
}

/** The clients that are in both lists, with the lower of their rights. */
function lowered(
  clients: ReadonlyMap<string, AuthorizedClient>,
  others: ReadonlyMap<string, AuthorizedClient>,
): Map<string, AuthorizedClient> {
  const both = new Map<string, AuthorizedClient>();
  for (const [key, client] of clients) {
    const other = others.get(key);
    if (other) both.set(key, withLower(client, other));
  }
  return both;
}

function withLower(a: AuthorizedClient, b: AuthorizedClient): AuthorizedClient {
  return RIGHTS.indexOf(a.right) <= RIGHTS.indexOf(b.right) ? a : b;
}
