/**
 * One node of Redis, and the connection to it: made again whenever it is lost, until it is closed.
 *
 * While there is no connection, commands fail at once: {@link ./nodes.ts} holds them, or asks another node. Scripts are loaded
 * when a connection is made, before any other command.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import type { RedisClientType } from "npm:redis@5.12.1";
import { NotReplicated } from "./faults.ts";
import { allScripts } from "./scripts.ts";
import type { RedisAddress } from "./url.ts";

/** node-redis. As a variable it is in no module graph: Deno fetches it when it is imported. */
const REDIS = "npm:redis@5.12.1";
/** The package. (Version 5: under Deno, version 6 does a third to a half of the commands in the same time.) */
export type NodeRedis = typeof import("npm:redis@5.12.1");
/** Loads the package. */
export const nodeRedis = (): Promise<NodeRedis> => import(REDIS);

/** How long a connection may take to be made, in milliseconds, … */
const CONNECT_MS = 2000;
/** … and how long a node may leave a question unanswered before the connection is made again. */
const SILENT_MS = 4000;
/** How long replicas may take to have a write, in milliseconds: less than clients wait by default. */
const REPLICATION_MS = 2000;
/** The longest wait before another attempt to connect, in milliseconds. */
const RETRY_MS = 250;

/** An argument of a Redis command. */
export type Argument = string | Buffer;
/** What Redis replies. Strings are bytes, states (`OK`) are strings. */
export type Reply = Buffer | string | number | null | Reply[];

/** The connection to a node. */
export class Node {
  /** `host:port`. */
  readonly address: string;
  readonly host: string;
  readonly port: number;
  /** Why it cannot be reached; undefined if it can, as far as is known. */
  fault: unknown;
  /** How many milliseconds its clock is ahead of this process' clock, at most. */
  ahead = 0;
  readonly #redis: NodeRedis;
  readonly #access: RedisAddress;
  readonly #options: { typeMapping: Record<number, unknown> };
  #client: RedisClientType;
  /** When the question was asked that is not answered yet. */
  #asked: number | undefined;
  #closed = false;
  #replicated: Promise<void> | undefined;

  constructor(redis: NodeRedis, host: string, port: number, access: RedisAddress) {
    this.#redis = redis;
    this.host = host;
    this.port = port;
    this.address = addressOf(host, port);
    this.#access = access;
    this.#options = { typeMapping: { [redis.RESP_TYPES.BLOB_STRING]: Buffer } };
    this.#client = this.#connect();
  }

  /** Whether there is a connection. */
  get isReady(): boolean {
    return this.#client.isReady;
  }

  /** Sends a command. It leaves with all that is sent in this turn of the event loop. */
  send(args: readonly Argument[]): Promise<Reply> {
    return this.#client.sendCommand(args as Argument[], this.#options as never) as Promise<Reply>;
  }

  /**
   * Waits until replicas have what was sent before, in one question for all of it.
   *
   * @throws {NotReplicated} if too few have it in time.
   */
  replicated(replicas: number): Promise<void> {
    return this.#replicated ??= Promise.resolve().then(async () => {
      this.#replicated = undefined;
      const count = await this.send(["WAIT", `${replicas}`, `${REPLICATION_MS}`]) as number;
      if (count < replicas) {
        throw new NotReplicated(`${count} of ${replicas} replicas of ${this.address} have it`);
      }
    });
  }

  /** Loads the scripts (again). */
  async loadScripts(): Promise<void> {
    await Promise.all(allScripts().map(({ source }) => this.send(["SCRIPT", "LOAD", source])));
  }

  /** Looks at its clock. If it did not answer the last time, the connection is made again. Call it every second. */
  check(): void {
    const now = performance.now();
    if (this.#asked !== undefined && now - this.#asked > SILENT_MS) return this.#connectAgain();
    if (!this.isReady || this.#asked !== undefined) return;
    this.#askTime().catch(() => {});
  }

  /** Closes the connection: commands that have no reply yet fail. */
  close(): void {
    this.#closed = true;
    if (this.#client.isOpen) this.#client.destroy();
  }

  #connect(): RedisClientType {
    const { username, password, tls } = this.#access;
    const { host, port } = this;
    const reconnectStrategy = (tries: number) =>
      this.#closed ? false as const : Math.min(10 * 2 ** tries, RETRY_MS);
    const client: RedisClientType = this.#redis.createClient({
      socket: { host, port, tls: tls as never, connectTimeout: CONNECT_MS, reconnectStrategy },
      username,
      password,
      disableOfflineQueue: true,
      clientInfoTag: "memstore",
      maintNotifications: "disabled",
    }) as never;
    client.on("error", (error) => this.fault = error);
    client.on("ready", () => {
      // (They leave before any command, and in its order.)
      this.loadScripts().catch((error) => this.fault = error);
      this.#asked = undefined;
      this.#askTime().catch(() => {});
      this.fault = undefined;
    });
    // (What is wrong is told to "error".)
    client.connect().catch(() => {});
    return client;
  }

  #connectAgain(): void {
    this.#asked = undefined;
    const old = this.#client;
    this.#client = this.#connect();
    this.fault = new Error(`${this.address} has not answered for ${SILENT_MS / 1000} s`);
    if (old.isOpen) old.destroy();
  }

  async #askTime(): Promise<void> {
    this.#asked = performance.now();
    try {
      const before = Date.now();
      const [seconds, microseconds] = await this.send(["TIME"]) as Buffer[];
      const time = Number(seconds) * 1000 + Number(microseconds) / 1000;
      this.ahead = Math.ceil(time - before);
    } finally {
      this.#asked = undefined;
    }
  }
}

/** `host:port`, as Redis writes it. */
export function addressOf(host: string, port: number): string {
  return `${host}:${port}`;
}
