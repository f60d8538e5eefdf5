/**
 * Puts small faults into the code, one at a time, and tells which of them no test catches.
 *
 * ```sh
 * deno task mutants                                # the faults that are named below
 * deno task mutants --area engine --count 20       # 20 that are made by chance, in one area
 * deno task mutants --area state --seed 7 --count 20 --only state/queue.ts
 * ```
 *
 * A fault is a text of a file and another in its place. Those made by chance flip a comparison, are off by one, swap
 * `&&` and `||` or `true` and `false`, leave a guard out, or drop a statement. For each, the test files of its area
 * run one after another, fast ones first, until one fails: then it is caught. Those that come back at every run as
 * `SURVIVED` are to be read: either the program is the same with the fault (`x <= n` where x is never n), or a test
 * is missing. 90 % caught is the aim in every area.
 *
 * All happens in a copy of the project in a temporary directory, which is removed at the end.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { basename, dirname, join } from "node:path";

/** A fault that makes a test file take this many times longer than without it, and this long, is caught. */
const SLOWER = 5;
const LIMIT_MS = 60_000;

/** Where an area's code is, and which tests are to see its faults, fast ones first. */
const AREAS: Record<string, { code: string[]; tests: string[] }> = {
  engine: {
    code: ["msgpack/key.ts", "blocks/*.ts", "engine/memory/*.ts"],
    tests: ["table", "heap", "transaction", "catalog", "key", "cursor", "memory", "dispatch", "commands"],
  },
  commands: {
    code: ["commands", "engine/memory/commands", "host/arguments.ts", "host/dispatch.ts", "host/execution.ts"]
      .concat("host/plan.ts", "host/commands.ts", "host/custom.ts", "host/paused.ts"),
    tests: ["commands", "dispatch", "batch", "client", "server", "hostile"],
  },
  wire: {
    code: ["transport", "msgpack", "auth"],
    tests: [
      "message",
      "msgpack",
      "codec",
      "endpoint",
      "socket",
      "key",
      "hostile",
      "connections",
      "neighbours",
    ]
      .concat("curve", "connect"),
  },
  state: {
    code: ["state", "system"],
    tests: ["state_file", "state_safety", "catalog", "persistence", "lifecycle", "server", "s3"],
  },
  host: {
    code: [
      "client.ts",
      "client",
      "server.ts",
      "host/serving.ts",
      "host/slice.ts",
      "host/log.ts",
      "host/lifecycle.ts",
    ],
    tests: [
      "batch",
      "views",
      "client_limits",
      "lock",
      "client",
      "connect",
      "dispatch",
      "server",
      "neighbours",
    ]
      .concat("lifecycle"),
  },
  terminal: {
    code: ["settings", "terminal", "cli.ts"],
    tests: ["settings", "cli", "repl", "lifecycle"],
  },
};

interface Fault {
  area: string;
  file: string;
  /** The text, which the file holds just once, … */
  text: string;
  /** … and what is put in its place. */
  instead: string;
  /** Test files that are to see it; else those of its area. */
  tests?: string[];
}

/** Faults that tests once missed. */
const NAMED: Fault[] = [
  // Data.
  {
    area: "engine",
    file: "engine/memory/table.ts",
    text: "if (expiring !== 0 || grown !== 0) this.count(0, expiring, grown);",
    instead: "if (grown !== 0) this.count(0, 0, grown);",
    tests: ["catalog"],
  },
  {
    area: "engine",
    file: "engine/memory/store.ts",
    text: "if (!released) heap.thaw();",
    instead: "",
    tests: ["memory"],
  },
  {
    area: "engine",
    file: "engine/memory/store.ts",
    text: "    if (this.heap.frozen) return;\n",
    instead: "",
    tests: ["catalog"],
  },
  {
    area: "engine",
    file: "engine/memory/table.ts",
    text: "if (heap.frozen || this.registry.effects.sink ||",
    instead: "if (this.registry.effects.sink ||",
    tests: ["catalog"],
  },
  {
    area: "engine",
    file: "engine/memory/hash_index.ts",
    text: "if (depthOf(otherWords[o + 1]) !== depth) return;",
    instead: "",
    tests: ["catalog"],
  },
  {
    area: "state",
    file: "host/lifecycle.ts",
    text: "    try {\n      await autoSave.save();",
    instead: "    try {",
  },
  {
    area: "state",
    file: "host/lifecycle.ts",
    text: "    gate.close();\n    const why",
    instead: "    const why",
    tests: ["lifecycle"],
  },
  {
    area: "state",
    file: "state/autosave.ts",
    text: "      this.#savedChanges = changeCount;",
    instead: "      this.#savedChanges = this.#store.changeCount;",
    tests: ["state_safety"],
  },
  {
    area: "state",
    file: "state/file.ts",
    text: "    await file.sync();\n    directory.rename(beside, name);",
    instead: "    directory.rename(beside, name);\n    await file.sync();",
    tests: ["state_safety"],
  },
  {
    area: "state",
    file: "state/file.ts",
    text: "  await directory.sync();",
    instead: "",
    tests: ["state_safety"],
  },
  {
    area: "state",
    file: "state/file.ts",
    text: "    file.tryLock();\n",
    instead: "",
    tests: ["state_safety"],
  },
  {
    area: "state",
    file: "state/file.ts",
    text: "NEW_MS && file.tryLock()",
    instead: "NEW_MS",
    tests: ["persistence"],
  },
  {
    area: "state",
    file: "system/file_lock.ts",
    text: "if (found?.ino === held.ino && found.dev === held.dev) return",
    instead: "if (found !== held) return",
    tests: ["state_safety"],
  },
  {
    area: "wire",
    file: "msgpack/codec.ts",
    text: "    this.#depth--;\n    return items;",
    instead: "    return items;",
    tests: ["codec"],
  },
  // Bounds.
  {
    area: "engine",
    file: "engine/memory/heap.ts",
    text: "if (this.#dead <= this.#tolerated || this.#frozen > 0) return;",
    instead: "if (this.#dead <= this.#tolerated) return;",
    tests: ["heap"],
  },
  {
    area: "engine",
    file: "engine/memory/table.ts",
    text: "      heap.free(entry, size);\n      throw error;",
    instead: "      throw error;",
    tests: ["memory", "table", "transaction"],
  },
  {
    area: "engine",
    file: "engine/memory/hash_index.ts",
    text: "if (stateOf(this.heap, this.descriptor, SIZE) === 0) this.#freePages();\n    else ",
    instead: "",
    tests: ["memory", "table", "catalog"],
  },
  {
    area: "engine",
    file: "blocks/entry.ts",
    text: "expiryOf(words, w) <= Date.now()",
    instead: "expiryOf(words, w) < Date.now()",
    tests: ["catalog"],
  },
  {
    area: "engine",
    file: "engine/memory/expiry_queue.ts",
    text: "SWEPT_AT_ONCE = 256",
    instead: "SWEPT_AT_ONCE = 1e9",
    tests: ["commands"],
  },
  {
    area: "commands",
    file: "host/execution.ts",
    text: "if (this.#canPause && this.#slice.isOver()) return false;",
    instead: "",
    tests: ["dispatch"],
  },
  {
    area: "engine",
    file: "blocks/hash.ts",
    text: "crypto.getRandomValues(new Int32Array(2))",
    instead: "new Int32Array(2)",
    tests: ["table", "cursor"],
  },
  {
    area: "engine",
    file: "blocks/cursor.ts",
    text: "crypto.getRandomValues(new Int32Array(2))",
    instead: "new Int32Array(2)",
    tests: ["table", "cursor"],
  },
  {
    area: "engine",
    file: "engine/memory/sweeper.ts",
    text: "Math.min(next, now + LOOK_MS)",
    instead: "next",
    tests: ["catalog"],
  },
  {
    area: "state",
    file: "state/autosave.ts",
    text: "Math.min(milliseconds, MAX_TIMER_MS)",
    instead: "milliseconds",
    tests: ["lifecycle"],
  },
  {
    area: "state",
    file: "state/persistence.ts",
    text: "      await store.close();\n      throw error;",
    instead: "      throw error;",
    tests: ["memory"],
  },
  { area: "state", file: "state/gzip.ts", text: "1 << 11", instead: "1 << 20", tests: ["state_safety"] },
  {
    area: "host",
    file: "transport/zeromq/port.ts",
    text: "    from.inFlight--;",
    instead: "",
    tests: ["neighbours"],
  },
  {
    area: "host",
    file: "transport/zeromq/port.ts",
    text: " || from.deferredBytes > maxBytes",
    instead: "",
    tests: ["neighbours"],
  },
  {
    area: "host",
    file: "transport/zeromq/port.ts",
    text: "(this.#pendingBytes > crowd ? crowd * CROWD_PART : outputBuffer)",
    instead: "outputBuffer",
    tests: ["neighbours"],
  },
  {
    area: "host",
    file: "host/log.ts",
    text: "if (lines++ < WARNINGS_PER_SECOND) ",
    instead: "",
    tests: ["neighbours"],
  },
  {
    area: "host",
    file: "host/serving.ts",
    text: "    await this.#drain(port);",
    instead: "",
    tests: ["neighbours"],
  },
  {
    area: "host",
    file: "client/deadlines.ts",
    text: "Math.min(deadline - performance.now() + 1, MAX_TIMER_MS)",
    instead: "deadline - performance.now() + 1",
    tests: ["client", "connect"],
  },
  {
    area: "host",
    file: "client/multiplexer.ts",
    text: '      signal.removeEventListener("abort", abort);',
    instead: "",
    tests: ["connect"],
  },
  {
    area: "host",
    file: "client/batch.ts",
    text: '    signal?.removeEventListener("abort", abort);',
    instead: "",
    tests: ["connect", "batch"],
  },
  {
    area: "host",
    file: "client/lock.ts",
    text: '  signal?.removeEventListener("abort", end);',
    instead: "",
    tests: ["connect", "lock"],
  },
  {
    area: "wire",
    file: "auth/curve.ts",
    text: "& 0o077) !== 0)",
    instead: "& 0o007) !== 0)",
    tests: ["curve"],
  },
  {
    area: "wire",
    file: "transport/zeromq/listen.ts",
    text: "    lock.release();\n    throw error;",
    instead: "    throw error;",
    tests: ["socket"],
  },
  {
    area: "wire",
    file: "transport/zeromq/socket.ts",
    text: "if (frames.length < MAX_FRAMES) frames.push",
    instead: "frames.push",
    tests: ["socket"],
  },
  {
    area: "terminal",
    file: "terminal/output.ts",
    text: "\\x7f-\\x9f",
    instead: "\\x7f",
    tests: ["cli", "repl"],
  },
  {
    area: "terminal",
    file: "settings/read.ts",
    text: "const value = values?.get(key) ?? fromEnvironment(key);",
    instead: "const value = fromEnvironment(key) ?? values?.get(key);",
    tests: ["settings", "cli"],
  },
];

/** Faults by chance: what a line is searched for, and what takes its place. */
const CHANGES: [from: RegExp, to: string][] = [
  [/ < /, " <= "],
  [/ <= /, " < "],
  [/ > /, " >= "],
  [/ >= /, " > "],
  [/ === /, " !== "],
  [/ !== /, " === "],
  [/ \+ 1\b(?!\d|\.)/, ""],
  [/ - 1\b(?!\d|\.)/, ""],
  [/ && /, " || "],
  [/ \|\| /, " && "],
  [/\btrue\b/, "false"],
  [/\bfalse\b/, "true"],
  // A guard, or a statement, that stands on a line of its own.
  [/^ +if \(.*\) (return\b.*|throw\b.*|continue|break);$/, ""],
  [/^ +(this\.|await |[a-z]\w*[.(])[^=]*;$/, ""],
  [/^ +(this\.)?#?[\w.#]+ [-+]?= [^;]*;$/, ""],
];

/** A text that means nothing to the program, or that is about types: no fault is made there. */
const QUIET =
  /^\s*[\w#?]+\(.*\): .*;$|^\s*(readonly )?\w+\??: [^=]*;$|^\s*(\*|\/\/|\/\*|import\b|export type|type\b|interface\b|@)|=> *(void|boolean)\b.*;$/;

function main(): Promise<boolean> {
  const { values } = parseArgs({
    options: {
      area: { type: "string" },
      seed: { type: "string", default: "1" },
      count: { type: "string", default: "0" },
      only: { type: "string" },
    },
  });
  const areas = values.area ? [values.area] : Object.keys(AREAS);
  const unknown = areas.find((area) => !(area in AREAS));
  if (unknown) throw new Error(`Unknown area: received ${unknown}: one of ${Object.keys(AREAS).join(", ")}`);
  const count = Number(values.count);
  const chosen = ({ area, file }: Fault) =>
    areas.includes(area) && (values.only === undefined || file.startsWith(values.only));
  const faults = count > 0
    ? areas.flatMap((area) => byChance(area, count, Number(values.seed), values.only))
    : NAMED.filter(chosen);
  return run(faults);
}

/** Runs the tests against each fault; whether all are caught. */
async function run(faults: Fault[]): Promise<boolean> {
  const copy = await copyProject();
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, stop);
  const sums = new Map<string, { caught: number; all: number }>();
  /** How long each test file takes without a fault, in milliseconds; Infinity if it fails. */
  const sound = new Map<string, number>();
  try {
    for (const fault of faults) {
      if (stopped) break;
      const path = join(copy, fault.file);
      const before = await Deno.readTextFile(path);
      const { tests } = fault.tests ? fault as { tests: string[] } : AREAS[fault.area];
      let catcher: string | undefined;
      if (before.split(fault.text).length !== 2) {
        console.log(`STALE     ${fault.file}: it does not hold this text just once: ${fault.text}`);
        continue;
      }
      for (const test of tests) {
        // (A test that fails without a fault catches none.)
        const start = performance.now();
        if (!sound.has(test)) {
          sound.set(test, await passes(copy, test) ? performance.now() - start : Infinity);
        }
        const took = sound.get(test)!;
        if (took === Infinity) continue;
        await Deno.writeTextFile(path, before.replace(fault.text, () => fault.instead));
        const passed = await passes(copy, test, Math.max(LIMIT_MS, took * SLOWER));
        await Deno.writeTextFile(path, before);
        if (stopped) break;
        if (passed) continue;
        catcher = test;
        break;
      }
      if (stopped) break;
      const sum = sums.get(fault.area) ?? { caught: 0, all: 0 };
      sum.all++;
      if (catcher) sum.caught++;
      sums.set(fault.area, sum);
      console.log(`${catcher ? `caught by ${catcher}` : "SURVIVED "} ${describe(fault, before)}`);
    }
  } finally {
    for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.removeSignalListener(signal, stop);
    await Deno.remove(copy, { recursive: true });
  }
  for (const [test, passed] of sound) {
    if (!passed) console.log(`${test} fails without a fault: it was left out`);
  }
  for (const [area, { caught, all }] of sums) console.log(`${area}: ${caught} of ${all} caught`);
  return [...sums.values()].every(({ caught, all }) => caught === all);
}

function describe({ file, text, instead }: Fault, code: string): string {
  const line = code.slice(0, code.indexOf(text)).split("\n").length;
  const short = (text: string) => text.trim().replace(/\s+/g, " ");
  return ` ${file}:${line}  ${short(text)}  →  ${short(instead) || "(nothing)"}`;
}

/** The files that git knows, and new ones, as they are now. */
async function copyProject(): Promise<string> {
  const root = dirname(import.meta.dirname!);
  const git = new Deno.Command("git", { cwd: root, args: ["ls-files", "-zco", "--exclude-standard"] });
  const copy = await Deno.makeTempDir({ prefix: "memstore-mutants-" });
  const { stdout } = await git.output();
  for (const file of new TextDecoder().decode(stdout).split("\0").filter((file) => file !== "")) {
    await Deno.mkdir(join(copy, dirname(file)), { recursive: true });
    await Deno.copyFile(join(root, file), join(copy, file)).catch(() => {}); // (It was removed.)
  }
  return copy;
}

/** Whether a test file passes. What it has started is ended with it. */
async function passes(copy: string, test: string, limit = Infinity): Promise<boolean> {
  const flags = (JSON.parse(await Deno.readTextFile(join(copy, "deno.json"))).tasks.test.command as string)
    .split(" ").slice(2);
  const child = new Deno.Command(Deno.execPath(), {
    cwd: copy,
    args: ["test", "--no-check", "--fail-fast", ...flags, `tests/${test}_test.ts`],
    stdin: "null",
    stdout: "null",
    stderr: "null",
    detached: true, // a process group of its own
  }).spawn();
  endRunning = () => {
    try {
      Deno.kill(-child.pid, "SIGKILL");
    } catch {
      // Nothing is left of it.
    }
  };
  const timer = limit < Infinity ? setTimeout(endRunning, limit) : undefined;
  const { success } = await child.status;
  clearTimeout(timer);
  endRunning();
  return success;
}

/** Ends the test that runs, and all that it has started. */
let endRunning = () => {};
let stopped = false;

/** Ends early: no more faults are put in. */
function stop(): void {
  stopped = true;
  endRunning();
}

/** Some faults of an area, chosen by a seed. */
function byChance(area: string, count: number, seed: number, only = ""): Fault[] {
  const root = dirname(import.meta.dirname!);
  const found: Fault[] = [];
  for (const file of AREAS[area].code.flatMap((path) => filesOf(root, path))) {
    if (!file.startsWith(only)) continue;
    const code = Deno.readTextFileSync(join(root, file));
    for (const line of code.split("\n")) {
      if (QUIET.test(line)) continue;
      // (A line is found again by its text: the file may hold it just once.)
      if (code.split(`\n${line}\n`).length !== 2) continue;
      for (const [from, to] of CHANGES) {
        if (!from.test(line)) continue;
        found.push({ area, file, text: `\n${line}\n`, instead: `\n${line.replace(from, to)}\n` });
      }
    }
  }
  // (mulberry32)
  const random = () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ seed >>> 15, 1 | seed);
    t = (t + Math.imul(t ^ t >>> 7, 61 | t)) ^ t;
    return ((t ^ t >>> 14) >>> 0) / 2 ** 32;
  };
  const chosen: Fault[] = [];
  while (chosen.length < count && found.length > 0) {
    chosen.push(...found.splice(Math.floor(random() * found.length), 1));
  }
  return chosen;
}

/** The TypeScript files of a path: a file, a folder with those below it, or `folder/*.ts`. */
function filesOf(root: string, path: string): string[] {
  if (basename(path) !== "*.ts" && path.endsWith(".ts")) return [path];
  const deep = basename(path) !== "*.ts", folder = deep ? path : dirname(path);
  return [...Deno.readDirSync(join(root, folder))].flatMap(({ name, isDirectory }) => {
    if (isDirectory) return deep ? filesOf(root, join(folder, name)) : [];
    return name.endsWith(".ts") ? [join(folder, name)] : [];
  }).sort();
}

if (!await main()) Deno.exitCode = 1;
