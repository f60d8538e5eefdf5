/**
 * Helpers of the end-to-end tests: hosts in processes of their own, and peers that send any frames. All of them end with
 * the block that made them, also when the test fails.
 *
 * @module
 */

import manifest from "../deno.json" with { type: "json" };
import { MemStore, type MemStoreOptions } from "../mod.ts";
import { address } from "../transport/endpoint.ts";
import { ZMQ } from "../transport/zeromq/libzmq.ts";
import { Context } from "../transport/zeromq/context.ts";
import type { Frames } from "../transport/zeromq/frames.ts";
import type { Socket } from "../transport/zeromq/socket.ts";

/** The permissions of a task: tests run hosts with those of `start` (or for S3, of `compile`) and no others. */
function permissions(task: "start" | "compile"): string[] {
  const words = manifest.tasks[task].command.split(" ");
  return words.filter((word) => /^--(allow|ignore-env|no-prompt)/.test(word));
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const ROOT = new URL("..", import.meta.url);

/** A temporary directory, removed at the end of the block. */
export class TempDir implements AsyncDisposable {
  readonly path: string = Deno.makeTempDirSync({ prefix: "ms-" });

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.path, { recursive: true });
  }
}

/** A host in a process of its own, killed at the end of the block if it still lives. */
export class Host implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #directory: TempDir;
  /** What it serves: the first endpoint it was started with. */
  readonly endpoint: string;
  /** Where it was started: its relative paths begin there. */
  readonly directory: string;
  readonly status: Promise<Deno.CommandStatus>;
  /** What it said that it serves. */
  addresses: string[] = [];
  #error = "";
  readonly #drained: Promise<void>;

  private constructor(process: Deno.ChildProcess, directory: TempDir, endpoint: string) {
    this.#process = process;
    this.#directory = directory;
    this.directory = directory.path;
    this.endpoint = endpoint;
    this.status = process.status;
    this.#drained = this.#drain();
  }

  /** Starts a host with these endpoints (and flags behind them), and waits until it says that each can be reached. */
  static async start(...endpoints: string[]): Promise<Host> {
    const directory = new TempDir();
    if (endpoints.length === 0) endpoints.push(`${directory.path}/host.sock`);
    const host = Host.#spawn(directory, endpoints);
    const flag = endpoints.findIndex((each) => each.startsWith("--"));
    await host.#ready(flag < 0 ? endpoints.length : flag);
    return host;
  }

  /**
   * Starts a host that serves a path and perhaps other endpoints.
   *
   * @param maxOpenFiles What the system allows it.
   * @param maxFileBytes How long it lets a file of its become: a write beyond fails.
   */
  static async startWith(
    { endpoints = [], flags = [], maxOpenFiles, maxFileBytes, task, env }: {
      endpoints?: string[];
      flags?: string[];
      maxOpenFiles?: number;
      maxFileBytes?: number;
      task?: "start" | "compile";
      env?: Record<string, string>;
    },
  ): Promise<Host> {
    const directory = new TempDir();
    const all = [`${directory.path}/host.sock`, ...endpoints];
    const limits = (maxOpenFiles === undefined ? "" : `ulimit -n ${maxOpenFiles} && `) +
      // (It counts blocks of 512 bytes, and its signal would end the process.)
      (maxFileBytes === undefined ? "" : `trap "" XFSZ && ulimit -f ${maxFileBytes >> 9} && `);
    const host = Host.#spawn(directory, [...all, ...flags], { limits, task, env });
    await host.#ready(all.length);
    return host;
  }

  /** Starts a host of which it is not known whether it can serve. */
  static spawn(...endpoints: string[]): Host {
    return Host.#spawn(new TempDir(), endpoints);
  }

  /** The same with flags, and the permissions of a task. */
  static spawnWith({ flags, task }: { flags: string[]; task: "start" | "compile" }): Host {
    const directory = new TempDir();
    return Host.#spawn(directory, [`${directory.path}/host.sock`, ...flags], { task });
  }

  static #spawn(
    directory: TempDir,
    endpoints: string[],
    { limits = "", task = "start", env = {} }: {
      limits?: string;
      task?: "start" | "compile";
      env?: Record<string, string>;
    } = {},
  ): Host {
    const deno = [
      Deno.execPath(),
      "run",
      "--quiet",
      ...permissions(task),
      new URL("cli.ts", ROOT).pathname,
      "serve",
    ];
    const process = new Deno.Command("sh", {
      args: ["-c", `${limits}exec "$@"`, "sh", ...deno, ...endpoints],
      cwd: directory.path,
      env,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    return new Host(process, directory, endpoints[0]);
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** What it wrote to stderr, once it has ended. */
  async error(): Promise<string> {
    await this.#drained;
    return this.#error;
  }

  /** Waits until it has written a text to stderr, so many times. */
  async hasLogged(text: string, times = 1): Promise<void> {
    while (this.#error.split(text).length <= times) await new Promise((resolve) => setTimeout(resolve, 10));
  }

  /** Sends a signal. */
  kill(signal: Deno.Signal): void {
    this.#process.kill(signal);
  }

  /** Sends a signal and waits for the end. */
  async end(signal: Deno.Signal): Promise<Deno.CommandStatus> {
    this.#process.kill(signal);
    return await this.status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#process.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await this.status;
    await this.#process.stdout.cancel().catch(() => {});
    await this.#drained;
    await this.#directory[Symbol.asyncDispose]();
  }

  async #ready(lines: number): Promise<void> {
    let text = "";
    const reader = this.#process.stdout.pipeThrough(new TextDecoderStream()).getReader();
    while (text.split("memstore ready on ").length <= lines) {
      const { value, done } = await reader.read();
      if (done) {
        throw new Error(
          `Cannot start a host: it ended with ${(await this.status).code}: ${await this.error()}`,
        );
      }
      text += value;
    }
    await reader.cancel();
    this.addresses = Array.from(text.matchAll(/^memstore ready on (.*)$/gm), ([, address]) => address);
  }

  async #drain(): Promise<void> {
    for await (const text of this.#process.stderr.pipeThrough(new TextDecoderStream())) this.#error += text;
  }
}

/** A host in this process, whose warnings are kept. */
export class LocalHost implements AsyncDisposable {
  readonly directory = new TempDir();
  endpoint: string = `${this.directory.path}/host.sock`;
  readonly lines: Record<string, unknown>[] = [];
  readonly store: MemStore;

  constructor(options: MemStoreOptions, endpoint?: string) {
    this.endpoint = endpoint ?? this.endpoint;
    const log = (level: string, event: string, fields: Record<string, unknown>) => {
      if (level === "warning") this.lines.push({ event, ...fields });
    };
    this.store = new MemStore(this.endpoint, { ...options, log });
  }

  static async start(limits: MemStoreOptions["limits"], endpoint?: string): Promise<LocalHost> {
    const host = new LocalHost({ limits }, endpoint);
    await host.store.start();
    host.endpoint = host.store.endpoints[0];
    return host;
  }

  /** Resolves when a client was cut off for a reason; fails after some seconds. */
  async cutOff(why: RegExp, seconds = 5): Promise<void> {
    const said = () =>
      this.lines.some(({ event, why: each }) => event === "cut off" && why.test(String(each)));
    for (const end = performance.now() + seconds * 1000; !said(); await sleep(20)) {
      if (performance.now() < end) continue;
      throw new Error(`Nobody was cut off since ${why}: ${JSON.stringify(this.lines)}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store[Symbol.asyncDispose]();
    await this.directory[Symbol.asyncDispose]();
  }
}

/** A DEALER that sends any frames it likes: the client that a host must survive. */
export class Peer implements AsyncDisposable {
  readonly #context: Context;
  readonly #socket: Socket;

  private constructor(context: Context, socket: Socket) {
    this.#context = context;
    this.#socket = socket;
  }

  static async connect(endpoint: string): Promise<Peer> {
    const context = await Context.open();
    // (What libzmq would read ahead is left with the host.)
    const socket = context.socket(ZMQ.DEALER, { linger: 0, receiveHighWaterMark: 1 });
    socket.connect(address(endpoint));
    return new Peer(context, socket);
  }

  send(frames: (number[] | Uint8Array)[]): void {
    if (!this.#socket.send(frames.map((frame) => new Uint8Array(frame)))) throw new Error("Cannot send");
  }

  /** The next message; fails after five seconds. */
  async receive(): Promise<Frames> {
    const end = performance.now() + 5000;
    const timer = setTimeout(() => this.#socket.wake(), 5000);
    try {
      for (;;) {
        const frames = this.#socket.receive();
        if (frames) return frames;
        if (performance.now() >= end) throw new Error("No reply within 5 s");
        await this.#socket.wait();
      }
    } finally {
      clearTimeout(timer);
    }
  }

  async request(frames: (number[] | Uint8Array)[]): Promise<Frames> {
    this.send(frames);
    return await this.receive();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.close();
    await this.#context.close();
  }
}

/** Hostile clients in a process of their own, which ends with the block. */
export function hostiles(endpoint: string, kinds: string[]): AsyncDisposable {
  const process = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--allow-net",
      "--allow-read",
      "--allow-write",
      new URL("hostiles.ts", import.meta.url).pathname,
      endpoint,
      ...kinds,
    ],
    stdout: "null",
  }).spawn();
  return {
    async [Symbol.asyncDispose]() {
      process.kill("SIGKILL");
      await process.status;
    },
  };
}
