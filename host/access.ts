/**
 * Who may connect to a host: everybody who can reach its addresses or, with keys, the clients of a list.
 *
 * @module
 */

import { type AuthorizedClient, AuthorizedClients } from "../auth/clients.ts";
import { readKeys } from "../auth/curve.ts";
import { isLocal } from "../transport/endpoint.ts";
import type { KeyPair } from "../transport/transport.ts";
import type { Warn } from "./log.ts";
import type { HostOptions } from "./options.ts";

/**
 * Checks that nobody can connect whom the options do not mean to let in.
 *
 * @param names The endpoints as they were given, and the addresses that they stand for.
 * @throws {Error} that says which endpoint is open to too many.
 */
export function checkAccess(
  names: readonly string[],
  addresses: readonly string[],
  { insecure, key, allowGroup }: HostOptions,
): void {
  const open = addresses.find((each) => !isLocal(each));
  if (open !== undefined && !insecure && key === undefined) {
    const why =
      "other machines reach it, and could do everything: give it a key, serve 127.0.0.1, or allow it";
    throw new Error(`Cannot serve ${open}: ${why} (insecure)`);
  }
  const bareName = allowGroup ? names.find((each) => !each.includes("/")) : undefined;
  if (bareName !== undefined) {
    const why = "the directory of bare names is for its user alone: give a path";
    throw new Error(`Cannot serve ${bareName} to the group: ${why}`);
  }
}

/** The keys of a host, and the list of its clients, which is read again whenever it changes. */
export class Access {
  readonly keys: KeyPair;
  readonly #clients: AuthorizedClients;
  readonly #warn: Warn;

  private constructor(keys: KeyPair, clients: AuthorizedClients, warn: Warn) {
    this.keys = keys;
    this.#clients = clients;
    this.#warn = warn;
  }

  /**
   * Reads the host's key and the list; undefined for a host without a key.
   *
   * @param onRemoved Is given the public keys that are not authorized any more.
   * @throws {Error} if one of the files cannot be read.
   */
  static async open(
    { key, authorizedClients, log }: HostOptions,
    warn: Warn,
    onRemoved: (publicKeys: readonly string[]) => void,
  ): Promise<Access | undefined> {
    if (key === undefined) return undefined;
    if (authorizedClients === undefined) {
      throw new Error("Cannot use a key: the list of authorized clients is missing");
    }
    const keys = await readKeys(key);
    const clients = new AuthorizedClients(authorizedClients, {
      failed: (why) => log("warning", "authorized clients", { why }),
      removed: onRemoved,
    });
    return new Access(keys, clients, warn);
  }

  /** The client of a public key; undefined if it is not authorized (any more). */
  find(publicKey: string): AuthorizedClient | undefined {
    return this.#clients.find(publicKey);
  }

  /** Whether the client of a public key may connect from an address. One that may not is logged. */
  mayConnect(publicKey: string, address: string): boolean {
    const isAuthorized = this.find(publicKey) !== undefined;
    if (!isAuthorized) this.#warn("refused", { address, key: publicKey });
    return isAuthorized;
  }

  /** Stops reading the list. */
  close(): void {
    this.#clients.close();
  }
}
