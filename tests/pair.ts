/**
 * Hosts for the tests of the client: a real one in this process, and one whose replies a test decides.
 *
 * @module
 */

import * as events from "node:events";
import { type ClientOptions, MemStore, MemStoreClient, type MemStoreOptions } from "../mod.ts";
import { encoded, Reader } from "../msgpack/codec.ts";
import { ZMQ } from "../transport/zeromq/libzmq.ts";
import { Context } from "../transport/zeromq/context.ts";
import { parseRequest } from "../transport/zeromq/frames.ts";
import type { Socket } from "../transport/zeromq/socket.ts";
import { TempDir } from "./host.ts";

/** A host in this process, and a client of it. */
export interface Pair extends AsyncDisposable {
  readonly client: MemStoreClient;
  readonly store: MemStore;
  readonly directory: string;
}

/** Starts a host in this process, with a client of it. */
export async function pair(options: MemStoreOptions = {}, clientOptions: ClientOptions = {}): Promise<Pair> {
  const directory = new TempDir();
  const store = new MemStore(`${directory.path}/store.sock`, { dataDirectory: directory.path, ...options });
  await store.start();
  const client = new MemStoreClient(store.endpoints[0], clientOptions);
  return {
    client,
    store,
    directory: directory.path,
    async [Symbol.asyncDispose]() {
      await client.close();
      await store.stop();
      await directory[Symbol.asyncDispose]();
    },
  };
}

/** A command, decoded. */
export type Decoded = [name: string, ...args: unknown[]];

/** Speaks the protocol, and answers each message as a test says. */
export class ScriptedHost implements AsyncDisposable {
  readonly #directory = new TempDir();
  readonly endpoint = `${this.#directory.path}/scripted.sock`;
  /** The commands of each message that came. */
  readonly messages: Decoded[][] = [];
  readonly #context: Context;
  readonly #socket: Socket;
  readonly #serving: Promise<void>;
  #stopped = false;

  /**
   * @param answer The native replies to a message: `[0, value]` or `[1, [code, text]]` for each command.
   * @param most How many replies a message has at most.
   */
  static async start(answer: (commands: Decoded[]) => unknown[][], most = Infinity): Promise<ScriptedHost> {
    return new ScriptedHost(await Context.open(), answer, most);
  }

  private constructor(context: Context, answer: (commands: Decoded[]) => unknown[][], most: number) {
    this.#context = context;
    this.#socket = context.socket(ZMQ.ROUTER, { linger: 0 });
    this.#socket.bind(`ipc://${this.endpoint}`);
    this.#serving = this.#serve(answer, most);
  }

  async #serve(answer: (commands: Decoded[]) => unknown[][], most: number): Promise<void> {
    while (!this.#stopped) {
      const frames = this.#socket.receive();
      if (!frames) {
        await this.#socket.wait();
        continue;
      }
      const { envelope, payload } = parseRequest(frames);
      const commands: Decoded[] = [];
      for (const reader = new Reader(payload); reader.at < payload.length;) {
        commands.push(reader.value() as Decoded);
      }
      this.messages.push(commands);
      for (const replies = answer(commands); replies.length > 0;) {
        const bytes = replies.splice(0, most).flat().flatMap((item) => [...encoded(item)]);
        this.#socket.send([...envelope, new Uint8Array(bytes)]);
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    this.#socket.wake();
    await this.#serving;
    this.#socket.close();
    await this.#context.close();
    await this.#directory[Symbol.asyncDispose]();
  }
}

/** How many listeners a signal has. (The types that Deno has for `node:events` leave the function out.) */
export function abortListeners(signal: AbortSignal): number {
  const { getEventListeners } = events as unknown as {
    getEventListeners(target: EventTarget, type: string): unknown[];
  };
  return getEventListeners(signal, "abort").length;
}
