/**
 * All connections of a port: which are open, which one a message came by, and which one is closed when there are too many.
 *
 * **The sender.** A message carries the descriptor of its connection and a routing id. A descriptor is used again as soon
 * as its connection is closed, while messages of the closed one may still arrive: so both must match.
 *
 * **Routing ids.** A client may choose its own, or leave it to libzmq, which counts: `00`, then 32 bits. libzmq does not
 * keep clients from choosing such an id, and ends the process when it assigns one that is taken. So the first number is
 * unpredictable, and a client that claims an id that libzmq has not assigned is disconnected.
 *
 * **Too many.** To make room for a new connection, the oldest of those that have never sent anything is closed, as long
 * as they are more than an eighth of all. Otherwise the owner (a key, a process, a machine) of the most connections loses
 * the one that has been idle for the longest time. So an owner of many connections cannot keep out, or end, those of
 * owners of few.
 *
 * @module
 */

import { Connection } from "./connection.ts";
import { latin1 } from "../../msgpack/msgpack.ts";

/** How long messages and replies of a closed connection may still be in transit, in milliseconds. */
export const CLOSED_RETENTION_MS = 1_000;
/** The part of all connections that may be silent while others are closed to make room. */
const SILENT_PART = 1 / 8;
/** `00`, then 32 bits. */
const ASSIGNED_BYTES = 5;

/** The connections of a port. */
export class Connections {
  readonly #max: number;
  readonly #firstId: number;
  /** The open ones by their descriptors. Those that were disconnected stay until libzmq says that they are closed. */
  readonly #byFd = new Map<number, Connection>();
  /** How many of them are not disconnected. */
  #open = 0;
  #accepted = 0;
  /** Those that have not sent anything, the oldest first. */
  readonly #silent = new Set<Connection>();
  /** The others that are not disconnected, by their owners. */
  readonly #byOwner = new Map<string, Set<Connection>>();
  /** Those with a routing id of their own, by that. */
  readonly #byChosenId = new Map<string, Connection>();
  /** Closed ones: libzmq may still hold replies to them, … */
  readonly #closed = new Set<Connection>();
  /** … and messages from them, which are recognized by their routing ids. */
  readonly #closedById = new Map<string, Connection>();
  #evictedAt = 0;

  /**
   * @param max How many may be open.
   * @param firstId The first routing id that libzmq assigned, to none of the connections.
   */
  constructor(max: number, firstId: Uint8Array) {
    this.#max = max;
    this.#firstId = numberOf(firstId);
  }

  /** How many are open. */
  get open(): number {
    return this.#open;
  }

  /** Whether a connection is one of these, and open. */
  has(connection: Connection): boolean {
    return this.#isOpen(connection);
  }

  /** How many there have been. */
  get accepted(): number {
    return this.#accepted;
  }

  /** Adds a connection. Returns the one to disconnect for it, if there are too many. */
  add(fd: number): Connection | undefined {
    this.close(fd);
    const connection = new Connection(fd);
    this.#byFd.set(fd, connection);
    this.#silent.add(connection);
    this.#open++;
    this.#accepted++;
    return this.#open > this.#max ? this.#dispensable() : undefined;
  }

  /** Notes that a connection is closed. */
  close(fd: number): void {
    const connection = this.#byFd.get(fd);
    if (!connection) return;
    this.#byFd.delete(fd);
    this.#remove(connection);
    this.#markClosed(connection);
  }

  /** Notes that a connection is about to be disconnected. False if it is closed already. */
  disconnect(connection: Connection): boolean {
    if (connection.disconnected) return false;
    const open = this.#isOpen(connection);
    // (One that is closed was removed then.)
    if (open) this.#remove(connection);
    connection.disconnected = true;
    return open;
  }

  /** The connection that a message came by, if that is certain. */
  find(fd: number, id: Uint8Array): Connection | undefined {
    const found = this.#byFd.get(fd);
    // (Of one that was disconnected, the descriptor may belong to another by now, which chose the same id.)
    return found?.id && same(found.id, id) && !(found.disconnected && id[0] !== 0) ? found : undefined;
  }

  /** The same, once all connections are known that were opened and closed before the message came. */
  resolve(fd: number, id: Uint8Array): Connection {
    const found = this.#byFd.get(fd);
    if (found) {
      if (!found.id) return this.#identify(found, id);
      if (same(found.id, id)) return found;
      const closed = this.#closedById.get(keyOf(id));
      if (closed) return closed;
      if (this.#isLater(id, found.id)) {
        // The first message of its descriptor was of the one that had it before.
        const before = new Connection(fd);
        before.id = found.id;
        this.#markClosed(before);
        return this.#identify(found, id);
      }
    }
    const closed = this.#closedById.get(keyOf(id)) ?? new Connection(fd);
    if (closed.closedAt === 0) {
      closed.id = id;
      this.#markClosed(closed);
    }
    return closed;
  }

  /** Notes the owner of a connection. */
  setOwner(connection: Connection, owner: string): void {
    connection.owner = owner;
    if (!this.#isOpen(connection)) return;
    const all = this.#byOwner.get(owner);
    if (all) all.add(connection);
    else this.#byOwner.set(owner, new Set([connection]));
  }

  /** The open connections of an owner. */
  ownedBy(owner: string): Connection[] {
    return [...this.#byOwner.get(owner) ?? []];
  }

  /** Whether the client chose the routing id. */
  isChosen(id: Uint8Array): boolean {
    return id.length !== ASSIGNED_BYTES || id[0] !== 0;
  }

  /** Whether a client claims a routing id that libzmq has not assigned, but will or may. */
  isClaimed(id: Uint8Array): boolean {
    if (id[0] !== 0) return false;
    // (A takeover uses one up as well.)
    return this.isChosen(id) || this.#offset(id) > 2 * this.#accepted;
  }

  /**
   * Notes that a connection has a routing id that its client chose. Returns the connection that had it until now: libzmq
   * sends it nothing any more.
   */
  takeOver(by: Connection): Connection | undefined {
    if (!this.#isOpen(by)) return undefined;
    const key = keyOf(by.id!);
    const before = this.#byChosenId.get(key);
    this.#byChosenId.set(key, by);
    return before;
  }

  /** Keeps a closed connection until the reply that was just sent to it has left: libzmq has its counter's address. */
  keepClosed(connection: Connection): void {
    if (connection.closedAt > 0) this.#closed.add(connection);
  }

  /** All connections whose replies may be pending. */
  *all(): Generator<Connection> {
    yield* this.#byFd.values();
    yield* this.#closed;
  }

  /** Whether closed connections are still kept. */
  get hasClosed(): boolean {
    return this.#closed.size > 0;
  }

  /** Forgets the connections that have been closed for a while, and of which libzmq holds nothing any more. */
  evictClosed(collect: (connection: Connection) => void): void {
    if (this.#closed.size === 0) return;
    const now = performance.now();
    if (now - this.#evictedAt < CLOSED_RETENTION_MS / 10) return;
    this.#evictedAt = now;
    for (const connection of this.#closed) {
      collect(connection);
      if (now - connection.closedAt < CLOSED_RETENTION_MS) continue;
      if (connection.pendingReplies > 0 || connection.inFlight > 0) continue;
      this.#closed.delete(connection);
      const key = keyOf(connection.id!);
      if (this.#closedById.get(key) === connection) this.#closedById.delete(key);
    }
  }

  #isOpen(connection: Connection): boolean {
    return !connection.disconnected && this.#byFd.get(connection.fd) === connection;
  }

  #identify(connection: Connection, id: Uint8Array): Connection {
    connection.id = id;
    this.#silent.delete(connection);
    return connection;
  }

  /** (Commands of a client that is gone are still run, though nobody reads the replies.) */
  #markClosed(connection: Connection): void {
    connection.closedAt = performance.now();
    if (!connection.id) return;
    this.#closed.add(connection);
    this.#closedById.set(keyOf(connection.id), connection);
  }

  #remove(connection: Connection): void {
    if (connection.disconnected) return;
    this.#open--;
    this.#silent.delete(connection);
    const { id, owner } = connection;
    if (!id) return;
    const key = keyOf(id);
    if (this.#byChosenId.get(key) === connection) this.#byChosenId.delete(key);
    const all = this.#byOwner.get(owner);
    all?.delete(connection);
    if (all?.size === 0) this.#byOwner.delete(owner);
  }

  /** The connection that is closed to make room. */
  #dispensable(): Connection {
    let largest: Set<Connection> | undefined;
    if (this.#silent.size <= Math.max(1, this.#max * SILENT_PART)) {
      for (const all of this.#byOwner.values()) if (all.size > (largest?.size ?? 0)) largest = all;
    }
    if (!largest) {
      const [oldest] = this.#silent;
      return oldest;
    }
    let idle: Connection | undefined;
    for (const each of largest) if (!idle || each.lastMessage < idle.lastMessage) idle = each;
    return idle!;
  }

  /** Whether libzmq assigned a routing id after another one. */
  #isLater(id: Uint8Array, than: Uint8Array): boolean {
    return !this.isChosen(id) && !this.isChosen(than) && this.#offset(id) > this.#offset(than);
  }

  #offset(id: Uint8Array): number {
    return (numberOf(id) - this.#firstId) >>> 0;
  }
}

const keyOf = (id: Uint8Array) => latin1(id, 0, id.length);

/** The 32 bits of a routing id that libzmq assigned. */
const numberOf = (id: Uint8Array) => new DataView(id.buffer, id.byteOffset).getUint32(1);

function same(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
