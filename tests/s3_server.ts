/**
 * An S3 server in a process of its own, and a proxy before it that cuts connections.
 *
 * @module
 */

import { TempDir } from "./host.ts";

const ROOT = new URL("..", import.meta.url).pathname;

/** The one key that the server knows. */
export const CREDENTIALS = { accessKeyId: "S3RVER", secretAccessKey: "S3RVER" };

/** s3rver with an empty bucket `states`, killed at the end of the block. */
export class S3Server implements AsyncDisposable {
  readonly endpoint: string;
  readonly #directory: TempDir;
  readonly #process: Deno.ChildProcess;

  private constructor(endpoint: string, directory: TempDir, process: Deno.ChildProcess) {
    this.endpoint = endpoint;
    this.#directory = directory;
    this.#process = process;
  }

  static async start(): Promise<S3Server> {
    const directory = new TempDir();
    const code = `
      import S3rver from "s3rver";
      const server = new S3rver({
        port: 0, address: "127.0.0.1", silent: true, directory: Deno.args[0],
        configureBuckets: [{ name: "states" }],
      });
      // It does not know AbortMultipartUpload.
      server.middleware.unshift(async (context, next) => {
        const { uploadId } = context.query;
        if (context.method !== "DELETE" || !/^[0-9a-f]+$/.test(uploadId)) return await next();
        await Deno.remove(Deno.args[0] + "/states/._S3rver_uploads/" + uploadId, { recursive: true });
        context.status = 204;
      });
      console.log((await server.run()).port);`;
    await Deno.writeTextFile(`${directory.path}/server.ts`, code);
    const process = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--allow-all", `--config=${ROOT}deno.json`, "server.ts", directory.path],
      cwd: directory.path,
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const reader = process.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const { value } = await reader.read();
    await reader.cancel();
    if (!value) throw new Error(`Cannot start the S3 server: it ended with ${(await process.status).code}`);
    return new S3Server(`http://127.0.0.1:${value.trim()}`, directory, process);
  }

  /** How many uploads in parts are neither complete nor aborted. (The server has no command to list them.) */
  get unfinished(): number {
    try {
      return Array.from(Deno.readDirSync(`${this.#directory.path}/states/._S3rver_uploads`)).length;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return 0;
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#process.status;
    await this.#directory[Symbol.asyncDispose]();
  }
}

/** Where a proxy cuts a connection: after so many bytes from the client, or from the server. */
export interface Cut {
  up?: number;
  down?: number;
}

/** A TCP proxy that cuts every connection at one place. */
export class CuttingProxy implements AsyncDisposable {
  readonly endpoint: string;
  readonly #listener: Deno.TcpListener;
  readonly #connections = new Set<Deno.TcpConn>();
  readonly #running: Promise<void>;
  /** Where connections are cut; nowhere while it is empty. */
  cut: Cut = {};

  constructor(to: string) {
    const { hostname, port } = new URL(to);
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.endpoint = `http://127.0.0.1:${this.#listener.addr.port}`;
    this.#running = this.#run(hostname, Number(port));
  }

  async #run(hostname: string, port: number): Promise<void> {
    const pipes: Promise<void>[] = [];
    for await (const client of this.#listener) {
      const server = await Deno.connect({ hostname, port });
      this.#connections.add(client).add(server);
      pipes.push(this.#pipe(client, server, this.cut.up), this.#pipe(server, client, this.cut.down));
    }
    await Promise.all(pipes);
  }

  async #pipe(from: Deno.TcpConn, to: Deno.TcpConn, most = Infinity): Promise<void> {
    const buffer = new Uint8Array(1 << 14);
    try {
      for (let passed = 0; passed < most;) {
        const length = await from.read(buffer);
        if (length === null) return;
        const part = buffer.subarray(0, Math.min(length, most - passed));
        for (let at = 0; at < part.length;) at += await to.write(part.subarray(at));
        passed += part.length;
      }
    } catch {
      // The other direction was cut.
    } finally {
      for (const connection of [from, to]) this.#close(connection);
    }
  }

  #close(connection: Deno.TcpConn): void {
    if (this.#connections.delete(connection)) connection.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const connection of this.#connections) this.#close(connection);
    await this.#running;
  }
}
