/**
 * The settings of a host: what a file, the environment and flags may say, which of them wins, and that a
 * secret in them is never shown. Where processes matter they are real, with the permissions of deno.json.
 */

import assert from "node:assert/strict";
import { MemStoreClient } from "../client.ts";
import manifest from "../deno.json" with { type: "json" };
import { SettingsError } from "../settings/error.ts";
import { parseFile } from "../settings/file.ts";
import { example } from "../settings/init.ts";
import { bytes, duration, engine, hasPassword, type Kind } from "../settings/kinds.ts";
import { readClientSettings, readSettings } from "../settings/read.ts";
import { settings } from "../settings/list.ts";
import { colored, human, json } from "../terminal/log.ts";
import { writeKeys } from "../auth/curve.ts";
import { TempDir } from "./host.ts";

const CLI = new URL("../cli.ts", import.meta.url).pathname;
const DENO_RUN = [
  "run",
  "--quiet",
  ...manifest.tasks.compile.command.split(" ").filter((word) => /^--(allow|no-prompt)/.test(word)),
  CLI,
];

/** A command line in a directory, with an environment. */
function memstore(cwd: string, args: string[], env: Record<string, string> = {}): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: [...DENO_RUN, ...args],
    cwd,
    env: { XDG_RUNTIME_DIR: cwd, ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
}

/** Runs one to its end. */
async function run(
  cwd: string,
  args: string[],
  env?: Record<string, string>,
): Promise<{ code: number; stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await memstore(cwd, args, env).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

/** A `memstore serve` that has said where it is ready, killed at the end of the block. */
class Serving implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly stderr: Promise<string>;
  /** All that it wrote to stdout so far. */
  stdout = "";
  readonly #read: Promise<void>;
  readonly #ready = Promise.withResolvers<void>();

  private constructor(command: Deno.Command) {
    this.#child = command.spawn();
    this.stderr = this.#child.stderr.text();
    this.#read = this.#readAll();
  }

  static async start(cwd: string, args: string[], env?: Record<string, string>): Promise<Serving> {
    const serving = new Serving(memstore(cwd, ["serve", ...args], env));
    try {
      await serving.#ready.promise;
    } catch (error) {
      await serving[Symbol.asyncDispose]();
      throw error;
    }
    return serving;
  }

  async #readAll(): Promise<void> {
    for await (const text of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
      this.stdout += text;
      if (this.stdout.includes("\n")) this.#ready.resolve();
    }
    this.#ready.reject(new Error(`The host ended: ${await this.stderr}`));
    await this.#ready.promise.catch(() => {});
  }

  /** Stops it cleanly: its exit code. */
  async stop(): Promise<number> {
    this.#child.kill("SIGTERM");
    const { code } = await this.#child.status;
    await this.#read;
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await this.#child.status;
    await this.#read;
    await this.stderr;
  }
}

/** The problems that a text has as the settings file `m.json`. */
function problems(text: string): readonly string[] {
  try {
    parseFile(text, "m.json");
  } catch (error) {
    if (error instanceof SettingsError) return error.problems;
    throw error;
  }
  return [];
}

Deno.test("durations and sizes have units, and what has none or too much is refused", () => {
  const cases: [Kind<number>, string | number, number | undefined][] = [
    [duration, "500ms", 500],
    [duration, "1.5s", 1500],
    [duration, "5m", 300_000],
    [duration, "1 h", 3_600_000],
    [duration, "24d", 24 * 86_400_000],
    [duration, "25d", undefined],
    [duration, "0s", undefined],
    [duration, "30", undefined],
    [duration, "-1s", undefined],
    [duration, "1e3s", undefined],
    [bytes, 4096, 4096],
    [bytes, "4096", 4096],
    [bytes, "1KB", 1024],
    [bytes, "512MB", 2 ** 29],
    [bytes, "512 mib", 2 ** 29],
    [bytes, "1.5GB", 1.5 * 2 ** 30],
    [bytes, "0", undefined],
    [bytes, -1, undefined],
    [bytes, 0.5, undefined],
    [bytes, "9999999TB", undefined],
    [bytes, "MB", undefined],
    [bytes, "1iB", undefined],
  ];
  for (const [kind, written, value] of cases) {
    if (value === undefined) assert.throws(() => kind.parse(written, "/"), TypeError, String(written));
    else assert.equal(kind.parse(written, "/"), value);
  }
});

Deno.test("a settings file may have comments and trailing commas; its relative paths begin at its directory", () => {
  const text = `{
    // A comment,
    "endpoints": ["jobs", "./jobs.sock", "tcp://127.0.0.1:5757", "ipc://x/y"], /* another */
    "dataDir": "data", "state": "s.msgpack", "storeEvery": "30s", "allowAnyPath": true, "maxMemory": 1024,
    "s3": { "region": "r", },
  }`;
  assert.deepEqual(
    Object.fromEntries(parseFile(text, "/etc/app/m.json")),
    {
      endpoints: ["jobs", "/etc/app/jobs.sock", "tcp://127.0.0.1:5757", "ipc://x/y"],
      dataDir: "/etc/app/data",
      state: "s.msgpack",
      storeEvery: 30_000,
      allowAnyPath: true,
      maxMemory: 1024,
      "s3.region": "r",
    },
  );
});

const FAULTS: [name: string, text: string, expected: string[]][] = [
  ["an unknown key", '{\n "storeEvry": "3s"\n}', [
    'm.json:2: Cannot set storeEvry: there is no such setting, did you mean "storeEvery"?',
  ]],
  ["an unknown key that is like no other", '{"xyz": 1}', [
    "m.json:1: Cannot set xyz: there is no such setting",
  ]],
  ["a key of every object", '{"__proto__": 1, "s3": {"constructor": 1}}', [
    "m.json:1: Cannot set __proto__: there is no such setting",
    "m.json:1: Cannot set s3.constructor: there is no such setting",
  ]],
  ["a key in the wrong object", '{"region": "r"}', [
    'm.json:1: Cannot set region: there is no such setting, did you mean "region" in "s3"?',
  ]],
  ["wrong types", '{"allowAnyPath": "yes",\n"maxMemory": null,\n"s3": 3,\n"endpoints": [1]}', [
    "m.json:1: Cannot set allowAnyPath: a boolean is needed: received string",
    "m.json:2: Cannot set maxMemory: a string or a number is needed: received null",
    "m.json:3: Cannot set s3: an object is needed: received number",
    "m.json:4: Cannot set endpoints: a string or an array of strings is needed: received array",
  ]],
  ["bad values", '{"storeEvery": "soon",\n"endpoints": "smtp://x",\n"logLevel": "loud"}', [
    'm.json:1: Cannot set storeEvery: a duration such as 500ms, 30s, 5m or 1h is needed: received "soon"',
    'm.json:2: Cannot set endpoints: Cannot parse endpoint: the scheme must be one of ipc, tcp: received "smtp://x"',
    'm.json:3: Cannot set logLevel: it must be one of debug, info, warning, error: received "loud"',
  ]],
  ["a key that is there twice", '{"s3": {"region": "a",\n"region": "b"}}', [
    "m.json:2: Cannot set s3.region: it is set twice, first in line 1",
  ]],
  ["broken syntax", '{"s3": {"region": "a"\n"profile": "b"}}', [
    "m.json:2: Cannot read the settings: it is not valid JSON, in or after s3.profile: comma expected",
  ]],
  ["nothing", "", ["m.json:1: Cannot read the settings: it is not valid JSON: value expected"]],
  ["no object", "[]", ["m.json:1: Cannot read the settings: an object is needed: received array of strings"]],
  ["a secret that cannot be one", '{"s3": {"secretAccessKey": 90210, "sessionToken": ""}}', [
    "m.json:1: Cannot set s3.secretAccessKey: a string is needed: received number",
    "m.json:1: Cannot set s3.sessionToken: it must not be empty",
  ]],
  ["an engine that is none", '{"engine": "mongodb://x",\n"redis": {"partitions": 0, "prefix": "a{b"}}', [
    'm.json:1: Cannot set engine: memory, or servers such as redis://host:7101,host:7102 are needed: received "mongodb://x"',
    "m.json:2: Cannot set redis.partitions: it must be from 1 to 4096: received 0",
    'm.json:2: Cannot set redis.prefix: it must have 1 to 64 characters, without spaces and braces: received "a{b"',
  ]],
  ["an engine that is none, with a password", '{"engine": "redis://me:hush@x:y"}', [
    "m.json:1: Cannot set engine: memory, or servers such as redis://host:7101,host:7102 are needed",
  ]],
  ["a password in an address", '{"s3": {"endpoint": "https://me:hush@x"}}', [
    "m.json:1: Cannot set s3.endpoint: it must not contain a name and a password",
  ]],
];

for (const [name, text, expected] of FAULTS) {
  Deno.test(`a settings file with ${name} is refused, with file, line and key`, () => {
    assert.deepEqual(problems(text), expected);
  });
}

Deno.test("a flag wins over the settings file, the file over the environment, that over the default", async () => {
  await using dir = new TempDir();
  const file = `${dir.path}/m.json`;
  const env = { MEMSTORE_LOG_LEVEL: "debug", MEMSTORE_STATE: "env", MEMSTORE_S3_REGION: "" };
  await Deno.writeTextFile(file, '{"logLevel": "warning", "state": "file", "maxMemory": "1KB"}');
  try {
    for (const [name, value] of Object.entries(env)) Deno.env.set(name, value);
    const levels = async (flags: [string, unknown][], path?: string) =>
      (await readSettings(new Map(flags), path)).settings;
    assert.equal((await levels([["logLevel", "error"]], file)).logLevel, "error");
    const fromFile = await levels([], file);
    assert.deepEqual([fromFile.logLevel, fromFile.state, fromFile.maxMemory], ["warning", "file", 1024]);
    const fromEnv = await levels([]);
    assert.deepEqual([fromEnv.logLevel, fromEnv.state, fromEnv.s3.region], ["debug", "env", undefined]);
    assert.deepEqual([fromEnv.endpoints, fromEnv.allowAnyPath, fromEnv.lane], [["memstore"], false, true]);
    Deno.env.set("MEMSTORE_CONFIG", file);
    assert.equal((await levels([])).logLevel, "warning");
  } finally {
    for (const name of [...Object.keys(env), "MEMSTORE_CONFIG"]) Deno.env.delete(name);
  }
});

Deno.test("the settings of a client: a flag overrides the settings file, the file overrides the environment", async () => {
  await using dir = new TempDir();
  const file = `${dir.path}/m.json`;
  const env = {
    MEMSTORE_ENDPOINT: "env",
    MEMSTORE_CLIENT_KEY: "/env.key",
    MEMSTORE_CLIENT_SERVER_KEY: "/env.pub",
    MEMSTORE_CLIENT_LANE: "false",
  };
  await Deno.writeTextFile(file, '{"client": {"endpoint": "file", "key": "file.key", "lane": true}}');
  try {
    for (const [name, value] of Object.entries(env)) Deno.env.set(name, value);
    assert.deepEqual(await readClientSettings(file), {
      endpoint: "file",
      key: `${dir.path}/file.key`,
      serverKey: "/env.pub",
      lane: true,
    });
    assert.deepEqual(await readClientSettings(), {
      endpoint: "env",
      key: "/env.key",
      serverKey: "/env.pub",
      lane: false,
    });
    Deno.env.set("MEMSTORE_CONFIG", file);
    assert.equal((await readClientSettings()).endpoint, "file");
  } finally {
    for (const name of [...Object.keys(env), "MEMSTORE_CONFIG"]) Deno.env.delete(name);
  }
  assert.match((await run(dir.path, ["endpoint"], env)).stdout, /env\.sock\n$/);
  assert.match((await run(dir.path, ["endpoint", "--config", file], env)).stdout, /file\.sock\n$/);
  assert.match(
    (await run(dir.path, ["endpoint", "--config", file, "-e", "flag"], env)).stdout,
    /flag\.sock\n$/,
  );
});

Deno.test("settings that do not fit each other or the machine are refused, with the place that they come from", async () => {
  await using dir = new TempDir();
  const file = `${dir.path}/m.json`;
  const cases: [text: string, flags: [string, unknown][], problem: RegExp][] = [
    ['{"storeEvery": "1s"}', [], /^\S+m\.json: Cannot set storeEvery: it needs the setting state,/],
    ["{}", [["storeEvery", 1000]], /^Cannot set storeEvery: it needs/],
    ['{"key": "k"}', [], /^\S+m\.json: Cannot set key: it needs the setting authorizedClients,/],
    [
      '{"authorizedClients": "k"}',
      [],
      /^\S+m\.json: Cannot set authorizedClients: it needs the setting key,/,
    ],
    ['{"dataDir": "none"}', [], /^\S+m\.json: Cannot set dataDir: there is no such directory.*\/none$/],
    ['{"dataDir": "m.json"}', [], /^\S+m\.json: Cannot set dataDir: there is no such directory/],
    [
      '{"engine": "redis://x", "state": "s", "maxMemory": "8MB"}',
      [],
      /^\S+m\.json: Cannot set state: only the engine memory has it: .*\n\S+m\.json: Cannot set maxMemory: only the/,
    ],
    ["{}", [["engine", "redis://x"], ["state", "s"]], /^Cannot set state: only the engine memory has it/],
    ["{}", [["dataDir", "/none"]], /^Cannot set dataDir: there is no such directory.*received \/none$/],
  ];
  for (const [text, flags, expected] of cases) {
    await Deno.writeTextFile(file, text);
    await assert.rejects(readSettings(new Map(flags), file), { name: "Error", message: expected }, text);
  }
});

Deno.test("an engine is memory or one or several servers of Redis, with a user or a password or none", () => {
  const fine = [
    "memory",
    "redis://localhost",
    "rediss://me:hush@redis.example.com:7101,redis.example.com:7102/",
    "redis://:hu%40sh@127.0.0.1:1,127.0.0.1:2,[::1]:3",
  ];
  for (const each of fine) assert.equal(engine.parse(each, "/"), each);
  for (
    const each of ["", "redis", "redis://", "redis://,", "redis://a b", "http://x", "redis://x/y", "memory "]
  ) {
    assert.throws(() => engine.parse(each, "/"), { name: "TypeError", message: /^memory, or servers/ }, each);
  }
  assert.deepEqual(fine.map(hasPassword), [false, false, true, true]);
});

Deno.test("a password in an engine that others can see is warned of, and not shown", async () => {
  await using dir = new TempDir();
  const file = `${dir.path}/m.json`, url = "redis://me:hush@x:1";
  await Deno.writeTextFile(file, JSON.stringify({ engine: url }), { mode: 0o644 });
  const { settings, warnings } = await readSettings(new Map([["engine", url]]), file);
  assert.equal(settings.engine, url);
  assert.equal(warnings.length, 2);
  assert.match(warnings[0], /m\.json holds engine, and other users can read or write it: run chmod 600/);
  assert.match(warnings[1], /^The flag of engine holds a password, .* as MEMSTORE_ENGINE$/);
  assert.doesNotMatch(warnings.join(), /hush/);
  await Deno.writeTextFile(file, JSON.stringify({ engine: "redis://x:1" }));
  assert.deepEqual((await readSettings(new Map([["engine", "redis://x:1"]]), file)).warnings, []);
});

Deno.test("memstore config check reads the host's key and its list of clients", async () => {
  await using dir = new TempDir();
  await Deno.writeTextFile(`${dir.path}/m.json`, '{"key": "host.key", "authorizedClients": "clients"}');
  await Deno.writeTextFile(`${dir.path}/host.key`, "no key", { mode: 0o640 });
  await Deno.writeTextFile(`${dir.path}/clients`, "nonsense read");
  const { code, stdout, stderr } = await run(dir.path, ["config", "check", "m.json"]);
  assert.deepEqual({ code, stdout }, { code: 1, stdout: "" });
  assert.match(
    stderr,
    /^memstore: m\.json: Cannot read the secret key .*chmod 600.*\nmemstore: m\.json: Cannot read .* .*clients:1: .*\n$/,
  );
});

Deno.test("every setting has one key, one variable and one line of help; secrets have no flag, and serve takes none of a client", () => {
  const all = [...settings.values()];
  // (A host's endpoint is the one that its clients use.)
  assert.equal(new Set(all.map(({ env }) => env)).size, all.length - 1);
  assert.equal(settings.get("client.endpoint")!.env, settings.get("endpoints")!.env);
  for (const [key, { env, flag, help, secret, default: standard, example }] of settings) {
    assert.match(env, /^MEMSTORE_[A-Z0-9_]+$/, key);
    assert.match(help, /^[A-Z][^\n]*\.$/, key);
    assert.equal(flag === undefined, secret === true || key.startsWith("client."), key);
    assert.notEqual(standard ?? example, undefined, key);
  }
});

Deno.test("what memstore config init prints passes config check, as it is and with every line switched on", async () => {
  await using dir = new TempDir();
  const all = example().replace(/^( *)\/\/ (?=")/gm, "$1");
  assert.deepEqual([...parseFile(example(), "m.json").keys()], []);
  assert.deepEqual([...parseFile(all, "m.json").keys()], [...settings.keys()]);
  assert.deepEqual(await run(dir.path, ["config", "init"]), { code: 0, stdout: example(), stderr: "" });
  await Deno.writeTextFile(`${dir.path}/all.json`, all, { mode: 0o600 });
  await Deno.mkdir(`${dir.path}/data`);
  await Deno.writeTextFile(`${dir.path}/clients`, "");
  await writeKeys(`${dir.path}/host.key`);
  assert.deepEqual(await run(dir.path, ["config", "check", "all.json"]), {
    code: 0,
    stdout: "all.json is fine\n",
    stderr: "",
  });
});

Deno.test("memstore config init FILE writes a file for its owner alone, and never over another", async () => {
  await using dir = new TempDir();
  const path = `${dir.path}/m.json`;
  assert.deepEqual(await run(dir.path, ["config", "init", "m.json"]), { code: 0, stdout: "", stderr: "" });
  assert.equal(await Deno.readTextFile(path), example());
  assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);
  await Deno.writeTextFile(path, "{}");
  const { code, stderr } = await run(dir.path, ["config", "init", "m.json"]);
  assert.equal(code, 1);
  assert.match(stderr, /^memstore: Cannot write the settings file: it exists already: received m\.json\n$/);
  assert.equal(await Deno.readTextFile(path), "{}");
});

Deno.test("memstore config check prints every error on a line of its own, with exit 1", async () => {
  await using dir = new TempDir();
  await Deno.writeTextFile(`${dir.path}/m.json`, '{\n"logLevel": 1,\n"storeEvry": "1s"\n}');
  const { code, stdout, stderr } = await run(dir.path, ["config", "check", "m.json"]);
  assert.deepEqual({ code, stdout }, { code: 1, stdout: "" });
  assert.deepEqual(stderr.split("\n").map((line) => line.slice(0, 40)), [
    "memstore: m.json:2: Cannot set logLevel:",
    "memstore: m.json:3: Cannot set storeEvry",
    "",
  ]);
  const none = await run(dir.path, ["config", "check", "none.json"]);
  assert.equal(none.code, 1);
  assert.match(
    none.stderr,
    /^memstore: Cannot read the settings file: it does not exist: received none\.json\n$/,
  );
});

Deno.test("memstore serve refuses settings that cannot be: a flag with exit 2, all others with exit 1", async () => {
  await using dir = new TempDir();
  await Deno.writeTextFile(`${dir.path}/m.json`, '{"storeEvery": "1s"}');
  const flag = await run(dir.path, ["serve", "--store-every", "soon"]);
  assert.equal(flag.code, 2);
  assert.match(flag.stderr, /^memstore: Cannot set storeEvery: .*"soon"\nusage: memstore serve /);
  const file = await run(dir.path, ["serve", "--config", "m.json"]);
  assert.equal(file.code, 1);
  assert.match(file.stderr, /^memstore: m\.json: Cannot set storeEvery: it needs the setting state.*\n$/);
  const env = await run(dir.path, ["serve"], { MEMSTORE_ALLOW_ANY_PATH: "maybe" });
  assert.equal(env.code, 1);
  assert.match(env.stderr, /^memstore: MEMSTORE_ALLOW_ANY_PATH: Cannot set allowAnyPath: .*"maybe"\n$/);
});

Deno.test("memstore serve takes file, environment and flags, keeps the state there, and logs each store as JSON", async () => {
  await using dir = new TempDir();
  await Deno.mkdir(`${dir.path}/conf/data`, { recursive: true });
  const text = '{"endpoints": "./a.sock", "dataDir": "data", "state": "wrong.msgpack", "allowAnyPath": true}';
  await Deno.writeTextFile(`${dir.path}/conf/m.json`, text);
  const env = { MEMSTORE_CONFIG: "conf/m.json", MEMSTORE_DATA_DIR: "/nowhere", MEMSTORE_LOG_LEVEL: "info" };
  const flags = ["--state", "right.msgpack", "--no-allow-any-path"];
  await using host = await Serving.start(dir.path, flags, env);
  assert.equal(host.stdout, `memstore ready on ipc://${dir.path}/conf/a.sock\n`);
  await using client = new MemStoreClient(`${dir.path}/conf/a.sock`);
  await client.set("t", "k", 1);
  await client.store("once.msgpack");
  await assert.rejects(client.store("../outside.msgpack"));
  await client.close();
  assert.equal(await host.stop(), 0);
  assert.deepEqual([...Deno.readDirSync(`${dir.path}/conf/data`)].map(({ name }) => name).sort(), [
    "once.msgpack",
    "right.msgpack",
  ]);
  const lines = (await host.stderr).trim().split("\n").map((line) => JSON.parse(line));
  const ok = lines.filter(({ event, result }) => event === "store" && result === "ok");
  assert.deepEqual(ok.map(({ where, entries, level }) => ({ where, entries, level })), [
    { where: "once.msgpack", entries: 1, level: "info" },
    { where: "right.msgpack", entries: 1, level: "info" },
  ]);
  for (const { time, bytes, seconds } of ok) {
    assert.ok(Math.abs(Date.now() - Date.parse(time)) < 600_000 && bytes > 0 && seconds >= 0);
  }
  assert.deepEqual(lines.filter(({ level }) => level === "error").map(({ where }) => where), [
    "../outside.msgpack",
  ]);
});

/** Hosts that have lanes, or have none: how each is started. */
const LANE_CASES: readonly [lanes: boolean, flags: string[], file?: string, env?: Record<string, string>][] =
  [
    [true, []],
    [false, ["--no-lane"]],
    [true, ["--lane"], '{"lane": false}'],
    [false, [], '{"lane": false}', { MEMSTORE_LANE: "true" }],
    [true, [], '{"lane": true}', { MEMSTORE_LANE: "false" }],
    [false, [], undefined, { MEMSTORE_LANE: "0" }],
    [false, ["--max-lanes", "0"]],
    [false, ["--max-lane-bytes", "319KB"]],
    [true, ["--max-lane-bytes", "320KB"]],
    [false, [], '{"limits": {"laneBytes": "64KB"}}'],
    [false, [], undefined, { MEMSTORE_MAX_LANES: "0" }],
  ];

Deno.test({
  name: "a host has lanes unless a flag, the settings file or the environment says no, in this order",
  ignore: Deno.build.os !== "linux",
  async fn() {
    await using dir = new TempDir();
    for (const [lanes, flags, file, env] of LANE_CASES) {
      const config = file === undefined ? [] : ["--config", "m.json"];
      if (file !== undefined) await Deno.writeTextFile(`${dir.path}/m.json`, file);
      await using host = await Serving.start(dir.path, ["./a.sock", ...flags, ...config], env);
      await using client = new MemStoreClient(`${dir.path}/a.sock`);
      const stats = await client.stats();
      assert.deepEqual({ clients: stats.clients, lanes: stats.lanes }, { clients: 1, lanes: lanes ? 1 : 0 });
      await client.close();
      assert.equal(await host.stop(), 0, [...flags, file, env].join(" "));
    }
  },
});

Deno.test("--log-level says what is logged", async () => {
  await using dir = new TempDir();
  await using host = await Serving.start(dir.path, ["./a.sock", "--log-level=error", "--state=s"]);
  assert.equal(await host.stop(), 0);
  assert.equal(await host.stderr, "");
});

Deno.test("secrets in the settings and the environment are not shown by the host, its log, stats or config check", async () => {
  await using dir = new TempDir();
  const [inFile, inEnv] = ["hush-hush-file", "hush-hush-env"];
  const text = `{"endpoints": "./a.sock", "logLevel": "debug", "s3": {"secretAccessKey": "${inFile}"}}`;
  await Deno.writeTextFile(`${dir.path}/m.json`, text, { mode: 0o644 });
  const env = { MEMSTORE_S3_SESSION_TOKEN: inEnv };
  const shown: string[] = [];
  {
    await using host = await Serving.start(dir.path, ["--config", "m.json", "--state", "s.msgpack"], env);
    await using client = new MemStoreClient(`${dir.path}/a.sock`);
    await client.set("t", "k", 1);
    shown.push(JSON.stringify([await client.stats(), await client.commands(), await client.info()]));
    await client.close();
    assert.equal(await host.stop(), 0);
    shown.push(host.stdout, await host.stderr);
    // Others can read the file.
    assert.match(await host.stderr, /"level":"warning","event":"settings","why":"m\.json holds s3\.secret/);
  }
  const check = await run(dir.path, ["config", "check", "m.json"], env);
  assert.deepEqual([check.code, check.stdout], [0, "m.json is fine\n"]);
  assert.match(check.stderr, /^memstore: m\.json holds s3\.secretAccessKey, .*chmod 600.*\n$/);
  const broken = text.replace('"./a.sock"', "1").replace(`"${inFile}"`, `["${inFile}"]`);
  await Deno.writeTextFile(`${dir.path}/broken.json`, broken);
  await Deno.writeTextFile(`${dir.path}/cut.json`, text.slice(0, -3));
  for (const args of [["config", "check", "broken.json"], ["serve", "--config", "cut.json"]]) {
    const output = await run(dir.path, args, env);
    assert.equal(output.code, 1);
    shown.push(output.stdout, output.stderr);
  }
  shown.push(check.stdout, check.stderr);
  for (const each of shown) assert.doesNotMatch(each, /hush/);
});

/** A record of the log. */
function record(level: "info" | "error" | "warning", event: string, properties: Record<string, unknown>) {
  const timestamp = new Date(2026, 0, 2, 12, 0, 1).getTime();
  return { category: ["memstore"], level, message: [event], rawMessage: event, timestamp, properties };
}

Deno.test("a record of the log is one line, short for people and JSON for machines", () => {
  const done = { where: "state.msgpack", entries: 1e6, bytes: 44 * 2 ** 20, seconds: 0.52, result: "ok" };
  const stored = record("info", "store", done);
  assert.equal(human(stored), "12:00:01 stored state.msgpack: 1,000,000 entries, 44 MB in 0.52 s\n");
  assert.equal(
    json(stored),
    `{"time":"${new Date(stored.timestamp).toISOString()}","level":"info","event":"store",` +
      '"where":"state.msgpack","entries":1000000,"bytes":46137344,"seconds":0.52,"result":"ok"}\n',
  );
  const failed = record("error", "restore", { ...done, where: "a\n\x1b[2Jb", result: "it is torn" });
  assert.equal(human(failed), "12:00:01 error restore a\\n\\u001b[2Jb: it is torn\n");
  assert.deepEqual(["\n", "\x1b"].filter((text) => json(failed).slice(0, -1).includes(text)), []);
  assert.equal(
    human(record("warning", "settings", { why: "a b", n: 1n })),
    '12:00:01 warning settings why="a b" n=1\n',
  );
  assert.ok(colored(failed).includes("\x1b[31merror\x1b[0m restore a\\n\\u001b[2Jb"));
});
