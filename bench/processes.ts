/**
 * The processes of the benchmark: the host, its peers and their loads. Each is killed at the end of the
 * block that started it, and lives in a temporary directory; none is reached from other machines.
 *
 * @module
 */

const ROOT = new URL("..", import.meta.url).pathname;
const HERE = new URL(".", import.meta.url).pathname;
const PYTHON = "/usr/bin/python3";
/** The options by which Deno knows the benchmark's packages. */
const CONFIG = [`--config=${ROOT}deno.json`, `--lock=${ROOT}tests/deno.lock`];
/** Reasons are told without colours. */
const ENV = { NO_COLOR: "1" };
/** How many characters of what a process writes to its stderr are kept. */
const ERRORS = 1000;

/** A process that is killed at the end of the block. */
export class Running implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly pid: number;
  /** Where it is reached. */
  readonly address: string;
  /** All that it printed, once it has ended. */
  readonly output: Promise<string>;
  /** What it has written to its stderr. */
  errors = "";

  private constructor(process: Deno.ChildProcess, address: string, output: Promise<string>) {
    this.#process = process;
    this.pid = process.pid;
    this.address = address;
    this.output = output;
  }

  /**
   * Starts a program, and waits until it has printed a line that holds `ready`.
   *
   * @param stdin Piped for a program that waits for {@linkcode Running.go}.
   */
  static async start(
    command: string,
    args: string[],
    address: string,
    cwd: string,
    stdin: "null" | "piped" = "null",
  ): Promise<Running> {
    const options = { args, cwd, env: ENV, stdin, stdout: "piped", stderr: "piped" } as const;
    const process = new Deno.Command(command, options).spawn();
    const ready = Promise.withResolvers<void>();
    const readOutput = async () => {
      let text = "";
      for await (const more of process.stdout.pipeThrough(new TextDecoderStream())) {
        text += more;
        if (/ready/i.test(text)) ready.resolve();
      }
      await errors;
      ready.reject(new Error(`Cannot start ${command}: it ended before it was ready: ${running.errors}`));
      return text.trim();
    };
    const readErrors = async () => {
      for await (const more of process.stderr.pipeThrough(new TextDecoderStream())) {
        running.errors = (running.errors + more).slice(-ERRORS);
      }
    };
    const running: Running = new Running(process, address, Promise.resolve().then(readOutput));
    const errors = readErrors();
    await ready.promise;
    return running;
  }

  /** Has a program begin that waits for a line on its stdin. */
  async go(): Promise<void> {
    const writer = this.#process.stdin.getWriter();
    await writer.write(new TextEncoder().encode("go\n"));
    await writer.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#process.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await this.#process.status;
    await this.output;
  }
}

/** Runs a program to its end. Returns what it printed. */
export async function run(command: string, args: string[], cwd = "."): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args, cwd, env: ENV, stdin: "null" })
    .output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes).trim();
  if (!success) throw new Error(`Cannot run ${command} ${args.join(" ")}: ${text(stderr)}`);
  return text(stdout);
}

/** The arguments that make Deno run a file of ours. */
export function deno(file: string, ...args: string[]): string[] {
  return [
    "run",
    "--quiet",
    "--allow-all",
    "--unstable-kv",
    ...CONFIG,
    `${ROOT}${file}`,
    ...args,
  ];
}

/** A memstore host, which may serve other endpoints beside its path. */
export function startHost(directory: string, name: string, ...others: string[]): Promise<Running> {
  const path = `${directory}/${name}.sock`;
  return Running.start(Deno.execPath(), deno("cli.ts", "serve", path, ...others), path, directory);
}

/** A Redis server without persistence, on a socket file. */
export function startRedis(directory: string, name: string): Promise<Running> {
  const path = `${directory}/${name}.redis`;
  const args = ["--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir", directory];
  return Running.start("redis-server", args, path, directory);
}

/** pymemstore's loop. */
export function startLoop(directory: string): Promise<Running> {
  const address = `ipc://${directory}/loop`;
  return Running.start(PYTHON, [`${HERE}peers/loop.py`, address], address, directory);
}

/** The programs to measure with and against; those that are missing are named. */
export interface Tools {
  /** The native load, compiled. */
  load?: string;
  redis?: string;
  python?: string;
  /** Where zeromq.js can be run by Node. */
  zeromq?: string;
  /** Whether lmdb loads. */
  lmdb?: boolean;
  /** Whether the native load can go through a lane. */
  lane?: boolean;
  /** Whether clients can read the host's memory. */
  direct?: boolean;
  /** Where peers that keep files keep them: in memory, where the system has a directory for that. */
  files: string;
  /** What is missing, and what it needs. */
  missing: string[];
}

/**
 * Finds the tools; compiles and installs what they need in a directory.
 *
 * @param files An empty directory for the files of peers.
 */
export async function findTools(directory: string, files: string): Promise<Tools> {
  const tools: Tools = { missing: [], files };
  const find = async (what: string, it: () => Promise<void>) => {
    try {
      await it();
    } catch {
      tools.missing.push(what);
    }
  };
  await find("the native load (needs a C compiler and libzmq's header: libzmq3-dev)", async () => {
    await run("cc", ["-O2", "-o", `${directory}/load`, `${HERE}load.c`, "-lzmq"]);
    tools.load = `${directory}/load`;
  });
  await find(
    "Redis, and fronts of a Redis cluster (need redis-server, redis-benchmark and redis-cli)",
    async () => {
      for (const name of ["redis-benchmark", "redis-cli"]) await run(name, ["--version"]);
      tools.redis = /v=(\S+)/.exec(await run("redis-server", ["--version"]))?.[1] ?? "?";
    },
  );
  await find("pymemstore's loop (needs python3-zmq and python3-msgpack)", async () => {
    tools.python = await run(PYTHON, ["-c", "import sys, zmq, msgpack; print(sys.version.split()[0])"]);
  });
  await find("zeromq.js under Node (needs node and npm)", async () => {
    const at = `${directory}/node`;
    await Deno.mkdir(at);
    await Deno.copyFile(`${HERE}peers/zeromq.mjs`, `${at}/zeromq.mjs`);
    await run("npm", [
      "install",
      "--ignore-scripts",
      "--no-audit",
      "--no-fund",
      "--prefix",
      at,
      "zeromq@6.8.0",
    ], at);
    await run("node", ["-e", "import('zeromq')"], at);
    tools.zeromq = at;
  });
  await find("lmdb (needs a binary of npm:lmdb for this platform)", async () => {
    await run(Deno.execPath(), ["eval", "--quiet", ...CONFIG, 'await import("lmdb")']);
    tools.lmdb = true;
  });
  tools.lane = Deno.build.os === "linux";
  if (!tools.lane) tools.missing.push("the lane from the native load (needs Linux)");
  tools.direct = tools.lane && Deno.build.arch === "x86_64";
  if (!tools.direct) tools.missing.push("direct reads (need Linux on x86-64)");
  return tools;
}

/** Bytes of memory that a process has. */
export async function memoryOf(pid: number): Promise<number> {
  return Number(await run("ps", ["-o", "rss=", "-p", `${pid}`])) * 1024;
}

/** Seconds of processor time that a process has used; on Linux only. */
export async function processTime(pid: number): Promise<number> {
  // (Deno itself reads nothing of /proc without all permissions.)
  return secondsOf(await run("cat", [`/proc/${pid}/stat`])).seconds;
}

/** Seconds of processor time that a process has used, by the names of its threads; on Linux only. */
export async function processorTime(pid: number): Promise<Map<string, number>> {
  const times = new Map<string, number>();
  const threads = await run("sh", ["-c", `cat /proc/${pid}/task/*/stat`]).catch(() => "");
  for (const line of threads.split("\n")) {
    if (line === "") continue;
    const { name, seconds } = secondsOf(line);
    times.set(name, (times.get(name) ?? 0) + seconds);
  }
  return times;
}

/** What a line of /proc tells of a process or thread: its name, and how much processor time it has used. */
function secondsOf(line: string): { name: string; seconds: number } {
  const [, name, fields] = /^\d+ \((.*)\) (.*)$/.exec(line)!;
  const [user, system] = fields.split(" ").slice(11, 13).map(Number);
  // (The kernel counts in hundredths of a second.)
  return { name, seconds: (user + system) / 100 };
}
