/**
 * Redis servers and clusters of the tests: real ones, on free ports of the loopback interface, with their files in a
 * temporary directory. All of them end with the block that started them, also when the test fails.
 *
 * @module
 */

import { TempDir } from "./host.ts";

/** How often is looked whether something has happened, in milliseconds. */
const POLL_MS = 20;
/** How long is waited for a cluster to do something before the test fails, in milliseconds. */
const PATIENCE_MS = 60_000;
/** How often other ports are tried: another process can take one between the look and the start. */
const ATTEMPTS = 5;

/** Whether the programs of Redis are installed. */
export const hasRedis: boolean = ["redis-server", "redis-cli"].every((name) => {
  try {
    return new Deno.Command(name, { args: ["--version"], stdout: "null", stderr: "null" }).outputSync()
      .success;
  } catch {
    return false;
  }
});

/** Why tests that need Redis are ignored; undefined where they run. In CI, the absence of Redis is a failure. */
export const withoutRedis: string | undefined = hasRedis || Deno.env.get("CI") !== undefined
  ? undefined
  : "redis-server or redis-cli is not installed";

/** Registers a test that needs Redis. */
export function testWithRedis(name: string, fn: () => Promise<void>): void {
  const ignored = withoutRedis === undefined ? "" : ` [ignored: ${withoutRedis}]`;
  Deno.test({ name: name + ignored, ignore: withoutRedis !== undefined, fn });
}

/** How a server is started. */
export interface RedisOptions {
  /** Flags of `redis-server` beside those that make it quick and keep it from writing. */
  flags?: string[];
  /** The password of the user `default`. */
  password?: string;
}

/** One `redis-server`. */
export class RedisServer implements AsyncDisposable {
  readonly port: number;
  readonly #directory = new TempDir();
  readonly #flags: readonly string[];
  readonly #password: string | undefined;
  #process: Deno.ChildProcess | undefined;
  /** What it has logged since it was started. */
  log = "";
  #read: Promise<void> = Promise.resolve();

  private constructor(port: number, flags: readonly string[], password: string | undefined) {
    this.port = port;
    this.#flags = flags;
    this.#password = password;
  }

  /** Starts a server, and waits until it accepts connections. */
  static async start({ flags = [], password }: RedisOptions = {}): Promise<RedisServer> {
    for (let attempt = 1;; attempt++) {
      const [port, bus] = freePorts(2);
      const ofCluster = flags.includes("--cluster-enabled") ? ["--cluster-port", `${bus}`] : [];
      const secret = password === undefined ? [] : ["--requirepass", password, "--masterauth", password];
      const server = new RedisServer(port, [...flags, ...ofCluster, ...secret], password);
      try {
        await server.restart();
        return server;
      } catch (error) {
        await server[Symbol.asyncDispose]();
        if (attempt === ATTEMPTS) throw error;
      }
    }
  }

  /** Its URL for `--engine`. */
  get url(): string {
    return urlOf([this], this.#password);
  }

  /** Its process, while it runs. */
  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** Starts it again on its port, after {@linkcode RedisServer.kill}. It has its nodes.conf, and no data. */
  async restart(): Promise<void> {
    const address = ["--bind", "127.0.0.1", "--port", `${this.port}`, "--dir", this.#directory.path];
    const process = new Deno.Command("redis-server", {
      args: [...address, "--save", "", "--appendonly", "no", ...this.#flags],
      stdin: "null",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#process = process;
    this.log = "";
    const ready = Promise.withResolvers<void>();
    this.#read = (async () => {
      for await (const text of process.stdout.pipeThrough(new TextDecoderStream())) {
        this.log += text;
        if (this.log.includes("Ready to accept connections")) ready.resolve();
      }
      ready.reject(new Error(`Cannot start redis-server on port ${this.port}: ${this.log}`));
    })();
    await ready.promise;
  }

  /** Runs a command with `redis-cli`. Returns what it prints. */
  async cli(...args: string[]): Promise<string> {
    return await redisCli(["-p", `${this.port}`, ...args], this.#password);
  }

  /** Sends it a signal: SIGSTOP has it hang, SIGCONT go on. */
  signal(signal: Deno.Signal): void {
    this.#process?.kill(signal);
  }

  /** Cuts the connections of all clients, when what they have sent was done, and before they are told. */
  async cutClients(): Promise<void> {
    using connection = await Deno.connect({ hostname: "127.0.0.1", port: this.port });
    const ask = async (command: string) => {
      await connection.write(new TextEncoder().encode(`${command}\r\n`));
      return async () => void await connection.read(new Uint8Array(100));
    };
    await (await ask("PING"))();
    // (What comes while it is stopped is done in one turn; the replies are sent in the next.)
    this.signal("SIGSTOP");
    await new Promise((resolve) => setTimeout(resolve, 100));
    const replied = await ask("CLIENT KILL TYPE normal SKIPME yes");
    this.signal("SIGCONT");
    await replied();
  }

  /** Kills it. Resolves when it has ended. */
  async kill(): Promise<void> {
    const process = this.#process;
    this.#process = undefined;
    try {
      process?.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await process?.status;
    await this.#read;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await this.#directory[Symbol.asyncDispose]();
  }
}

/** A cluster of Redis servers. */
export class RedisCluster implements AsyncDisposable {
  readonly nodes: readonly RedisServer[];
  readonly #password: string | undefined;

  private constructor(nodes: readonly RedisServer[], password: string | undefined) {
    this.nodes = nodes;
    this.#password = password;
  }

  /**
   * Starts a cluster. When it resolves, every node knows all others, each slot is served, and replicas are in sync.
   *
   * @param nodeTimeout After how many milliseconds of silence the others take a node for gone.
   */
  static async start(
    { masters = 3, replicas = 0, nodeTimeout = 15_000, flags = [], password }: RedisOptions & {
      masters?: number;
      replicas?: number;
      nodeTimeout?: number;
    } = {},
  ): Promise<RedisCluster> {
    const all = [
      ...["--cluster-enabled", "yes", "--cluster-node-timeout", `${nodeTimeout}`],
      // (A replica waits 5 s for others before it is sent the data.)
      ...["--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0"],
      // (A master without slots would become a replica.)
      ...["--cluster-allow-replica-migration", "no"],
      ...flags,
    ];
    const started = await Promise.allSettled(
      Array.from(
        { length: masters * (1 + replicas) },
        () => RedisServer.start({ flags: all, password }),
      ),
    );
    const nodes = started.filter((each) => each.status === "fulfilled").map(({ value }) => value);
    const cluster = new RedisCluster(nodes, password);
    try {
      for (const each of started) if (each.status === "rejected") throw each.reason;
      const addresses = nodes.map(({ port }) => `127.0.0.1:${port}`);
      const create = [
        "--cluster",
        "create",
        ...addresses,
        "--cluster-replicas",
        `${replicas}`,
        "--cluster-yes",
      ];
      await redisCli(create, password);
      await cluster.ready();
      return cluster;
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The URL of all nodes for `--engine`. */
  get url(): string {
    return urlOf(this.nodes, this.#password);
  }

  /** The nodes that run. */
  get living(): RedisServer[] {
    return this.nodes.filter(({ pid }) => pid !== undefined);
  }

  /** Waits until every node that runs says that the cluster is well, and its replicas are in sync. */
  async ready(): Promise<void> {
    await until("the cluster is ready", async () => {
      for (const node of this.living) {
        const info = await node.cli("CLUSTER", "INFO");
        if (!info.includes("cluster_state:ok") || !info.includes("cluster_slots_ok:16384")) return false;
        if (!info.includes(`cluster_known_nodes:${this.nodes.length}`)) return false;
        const replication = await node.cli("INFO", "replication");
        if (/master_link_status:(?!up)/.test(replication)) return false;
      }
      return true;
    });
  }

  /** The nodes that serve slots. */
  async masters(): Promise<RedisServer[]> {
    const found: RedisServer[] = [];
    for (const node of this.living) if ((await node.cli("ROLE")).startsWith("master")) found.push(node);
    return found;
  }

  /** The replica of a master that has one. */
  async replicaOf(master: RedisServer): Promise<RedisServer> {
    for (const node of this.living) {
      const [role, , port] = (await node.cli("ROLE")).split("\n");
      if (role === "slave" && Number(port) === master.port) return node;
    }
    throw new Error(`Cannot find a replica of ${master.port}`);
  }

  /** Waits until a replica has taken the place of a master that was killed, and all that run say that all is well. */
  async failedOver(killed: RedisServer): Promise<void> {
    await until("a replica has taken over", async () => {
      const [first] = this.living;
      const nodes = await first.cli("CLUSTER", "NODES");
      return !nodes.split("\n").some((line) =>
        line.includes(`:${killed.port}@`) && /\d-\d|\bconnected \d/.test(line)
      );
    });
    await this.ready();
  }

  /** Moves some slots from a master to another one while both serve. */
  async reshard(from: RedisServer, to: RedisServer, slots: number): Promise<void> {
    const [source, target] = await Promise.all([from, to].map((node) => node.cli("CLUSTER", "MYID")));
    const which = ["--cluster-from", source, "--cluster-to", target, "--cluster-slots", `${slots}`];
    const reshard = ["--cluster", "reshard", `127.0.0.1:${from.port}`, ...which, "--cluster-yes"];
    await redisCli(reshard, this.#password);
    await this.ready();
  }

  /** How many fields of hashes and members of sets each master has, in the keys that match a pattern. */
  async entries(pattern = "*"): Promise<number[]> {
    const script = `local sum = 0
      for _, key in ipairs(redis.call("KEYS", ARGV[1])) do
        local type = redis.call("TYPE", key).ok
        if type == "hash" then sum = sum + redis.call("HLEN", key) end
        if type == "set" then sum = sum + redis.call("SCARD", key) end
      end
      return sum`;
    const masters = await this.masters();
    return await Promise.all(
      masters.map(async (node) => Number(await node.cli("EVAL", script, "0", pattern))),
    );
  }

  /** Deletes everything. */
  async flush(): Promise<void> {
    await Promise.all((await this.masters()).map((node) => node.cli("FLUSHALL")));
  }

  /** Kills all nodes, … */
  async stop(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.kill()));
  }

  /** … and starts them again, empty. */
  async restart(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.restart()));
    await this.ready();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.nodes.map((node) => node[Symbol.asyncDispose]()));
  }
}

/** Waits until something is so. */
export async function until(what: string, isSo: () => Promise<boolean> | boolean): Promise<void> {
  for (const end = performance.now() + PATIENCE_MS; !(await isSo());) {
    if (performance.now() > end) throw new Error(`Waited ${PATIENCE_MS / 1000} s in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function urlOf(nodes: readonly RedisServer[], password: string | undefined): string {
  const user = password === undefined ? "" : `:${password}@`;
  return `redis://${user}${nodes.map(({ port }) => `127.0.0.1:${port}`).join(",")}`;
}

async function redisCli(args: string[], password: string | undefined): Promise<string> {
  const env: Record<string, string> = password === undefined ? {} : { REDISCLI_AUTH: password };
  const { success, stdout, stderr } = await new Deno.Command("redis-cli", { args, env, stdin: "null" })
    .output();
  const [out, error] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes).trim());
  if (!success) throw new Error(`Cannot run redis-cli ${args.join(" ")}: ${error} ${out}`);
  return out;
}

/** Ports of the loopback interface that nothing listens on. */
export function freePorts(count: number): number[] {
  const listeners = Array.from({ length: count }, () => Deno.listen({ hostname: "127.0.0.1", port: 0 }));
  const ports = listeners.map(({ addr }) => (addr as Deno.NetAddr).port);
  for (const listener of listeners) listener.close();
  return ports;
}
