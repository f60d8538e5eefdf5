/** CURVE: who is let in, with which rights, and what everybody else gets: nothing. */

import assert from "node:assert/strict";
import { MemStore, MemStoreClient, type MemStoreOptions } from "../mod.ts";
import { commands } from "../commands/list.ts";
import { AuthorizedClients } from "../auth/clients.ts";
import { isKey, makeKeys, readKeys, writeKeys } from "../auth/curve.ts";
import { Host, TempDir } from "./host.ts";

const ROOT = new URL("..", import.meta.url).pathname;
const PYTHON = "/usr/bin/python3";
const SOON = 1000;

/** A host on TCP with keys, a list of clients, and their key files. */
class Setting implements AsyncDisposable {
  readonly directory = new TempDir();
  readonly path: string = this.directory.path;
  readonly lines: Record<string, unknown>[] = [];
  readonly keys = new Map<string, string>();
  readonly #clients: MemStoreClient[] = [];
  #host: MemStore | undefined;
  endpoint = "";

  static async start(rights: Record<string, string>, options: MemStoreOptions = {}): Promise<Setting> {
    const setting = new Setting();
    await writeKeys(`${setting.path}/host.key`);
    for (const name of [...Object.keys(rights), "stranger"]) {
      setting.keys.set(name, (await writeKeys(`${setting.path}/${name}.key`)).publicKey);
    }
    setting.authorize(rights);
    setting.#host = new MemStore("tcp://127.0.0.1:*", {
      key: `${setting.path}/host.key`,
      authorizedClients: `${setting.path}/clients`,
      dataDirectory: setting.path,
      log: (level, event, fields) => setting.lines.push({ level, event, ...fields }),
      ...options,
    });
    setting.#host.command("custom", {
      args: [],
      help: "",
      run: (host) => host.send("set", "t", "custom", 1),
    });
    await setting.#host.start();
    setting.endpoint = setting.#host.endpoints[0];
    return setting;
  }

  authorize(rights: Record<string, string>): void {
    const lines = Object.entries(rights).map(([name, right]) =>
      `${this.keys.get(name)} ${right} ${name} # a comment`
    );
    // (Replaced, as an editor would do it.)
    Deno.writeTextFileSync(`${this.path}/clients.new`, ["# clients", "", ...lines, ""].join("\n"));
    Deno.renameSync(`${this.path}/clients.new`, `${this.path}/clients`);
  }

  client(name?: string, serverKey = `${this.path}/host.key.pub`): MemStoreClient {
    const keys = name === undefined ? {} : { key: `${this.path}/${name}.key`, serverKey };
    const client = new MemStoreClient(this.endpoint, { timeout: SOON, ...keys });
    this.#clients.push(client);
    return client;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) await client.close();
    await this.#host?.[Symbol.asyncDispose]();
    await this.directory[Symbol.asyncDispose]();
  }
}

Deno.test("keys are written for their owner alone, never over a file, and refused if others can read them", async () => {
  await using directory = new TempDir();
  const path = `${directory.path}/a.key`;
  const { publicKey, secretKey } = await writeKeys(path);
  assert.ok(isKey(publicKey) && isKey(secretKey));
  assert.equal(Deno.statSync(path).mode! & 0o777, 0o600);
  assert.equal(Deno.readTextFileSync(`${path}.pub`), `${publicKey}\n`);
  assert.deepEqual(await readKeys(path), { publicKey, secretKey });
  await assert.rejects(writeKeys(path), /Cannot write the key to .*a\.key: File exists/);
  Deno.writeTextFileSync(`${directory.path}/b.key.pub`, "");
  await assert.rejects(writeKeys(`${directory.path}/b.key`), /b\.key\.pub: File exists/);
  assert.deepEqual(await readKeys(path), { publicKey, secretKey });
  assert.throws(() => Deno.statSync(`${directory.path}/b.key`), Deno.errors.NotFound);
  for (const mode of [0o640, 0o620, 0o610, 0o604, 0o602, 0o601]) {
    Deno.chmodSync(path, mode);
    await assert.rejects(readKeys(path), /for you alone \(chmod 600\): its mode is 6/, mode.toString(8));
  }
  Deno.chmodSync(path, 0o400);
  assert.deepEqual(await readKeys(path), { publicKey, secretKey });
  Deno.chmodSync(path, 0o600);
  Deno.writeTextFileSync(path, secretKey.slice(1));
  await assert.rejects(readKeys(path), (error: Error) => !error.message.includes(secretKey.slice(1)));
});

/** A list of clients in a file of its own, and what it told. */
class List implements AsyncDisposable {
  readonly #directory = new TempDir();
  readonly path = `${this.#directory.path}/clients`;
  readonly failures: string[] = [];
  readonly removed: string[] = [];
  #clients: AuthorizedClients | undefined;

  write(...lines: string[]): void {
    Deno.writeTextFileSync(this.path, lines.join("\n"));
  }

  open(): AuthorizedClients {
    this.#clients?.close();
    return this.#clients = new AuthorizedClients(this.path, {
      failed: (why) => this.failures.push(why),
      removed: (keys) => this.removed.push(...keys),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#clients?.close();
    await this.#directory[Symbol.asyncDispose]();
  }
}

const publicKeys = async (count: number) =>
  await Promise.all(Array.from({ length: count }, async () => (await makeKeys()).publicKey));

/** Waits until something holds; fails where it never does. */
async function until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const end = performance.now() + 20_000;
  while (!await holds()) {
    assert.ok(performance.now() < end, `it does not come about: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

Deno.test("a list of clients is read again when it changes; a host does not start with one that has a fault", async () => {
  await using list = new List();
  const [a, b] = await publicKeys(2);
  assert.throws(() => list.open(), /Cannot read the authorized clients: .*No such file/);
  for (
    const [text, why] of [
      [`${a} owner x`, /clients:1: the right must be read, write or admin: received owner/],
      [`# fine\n\nnonsense read x`, /clients:3: it must begin with a public key/],
      [`${a}`, /clients:1: the right must be .* received none/],
      [`${a} read x\n${a} write y`, /clients:2: the key is there twice/],
      [`x\ny\n${a} read`, /clients:1: .*; .*clients:2: /],
    ] as const
  ) {
    list.write(text);
    assert.throws(() => list.open(), why);
  }
  list.write(`  ${a}\tread   first client # comment\n#${b} read x`);
  const clients = list.open();
  assert.deepEqual(clients.find(a), { right: "read", name: "first client" });
  assert.equal(clients.find(b), undefined);
  list.write(`${b} admin second`);
  await until(() => clients.find(a) === undefined, "the key is removed");
  assert.deepEqual(clients.find(b), { right: "admin", name: "second" });
  assert.deepEqual([list.removed, list.failures], [[a], []]);
});

Deno.test("a list of clients with a fault removes keys and lowers rights, but adds none and raises none", async () => {
  await using list = new List();
  const [kept, lowered, raised, removed, broken, twice, added] = await publicKeys(7);
  list.write(
    `${kept} write`,
    `${lowered} admin`,
    `${raised} read`,
    `${removed} admin`,
    `${broken} admin`,
    `${twice} admin`,
  );
  const clients = list.open();
  const rights = () =>
    [kept, lowered, raised, removed, broken, twice, added].map((key) => clients.find(key)?.right);
  list.write(
    `${kept} write`,
    `${lowered} read`,
    `${raised} admin`,
    `${broken} everything`,
    `${twice} write`,
    `${twice} read`,
    `${added} read`,
  );
  await until(() => list.failures.length > 0, "the fault is told");
  assert.deepEqual(rights(), ["write", "read", "read", undefined, undefined, "read", undefined]);
  assert.deepEqual(list.removed, [removed, broken]);
  assert.match(list.failures[0], /clients:4: the right must be .*; .*clients:6: the key is there twice/);
  // Another list with a fault, too, takes away only.
  list.write("nonsense", `${kept} admin`, `${lowered} admin`, `${removed} read`);
  await until(() => list.failures.length > 1, "the other fault is told");
  assert.deepEqual(rights(), ["write", "read", undefined, undefined, undefined, undefined, undefined]);
  // The same fault is told once.
  list.write("nonsense", `${kept} admin`);
  await until(() => clients.find(lowered) === undefined, "the list is read again");
  assert.equal(list.failures.length, 2);
  list.write(`${lowered} admin`, `${added} read`);
  await until(() => clients.find(added) !== undefined, "the whole list is read");
  assert.deepEqual(rights(), [undefined, "admin", undefined, undefined, undefined, undefined, "read"]);
  Deno.removeSync(list.path);
  await until(() => clients.find(added) === undefined, "a list that was deleted authorizes nobody");
  assert.deepEqual(rights(), Array(7).fill(undefined));
  assert.match(list.failures.at(-1)!, /No such file/);
});

Deno.test("clients with keys are served by their rights; every command has one", async () => {
  await using setting = await Setting.start({ reader: "read", writer: "write", admin: "admin" });
  const [reader, writer, admin] = ["reader", "writer", "admin"].map((name) => setting.client(name));
  const denied = { code: "DENIED" };
  await admin.set("t", "k", 1);
  await admin.store("state");
  await writer.set("t", "l", 2);
  assert.equal(await reader.get("t", "k"), 1);
  for (const call of [() => writer.store("state"), () => writer.restore("state"), () => writer.done()]) {
    await assert.rejects(call(), denied);
  }
  await assert.rejects(writer.send(["custom"]), denied);
  await admin.send(["custom"]);
  await assert.rejects(writer.s3store("b", "k"), denied);
  const before = await admin.all("t");
  // Whatever a reader sends, in any company, changes nothing.
  for (const { name, args, needs } of commands) {
    const values = args.filter(({ optional }) => !optional).map(({ type }) =>
      type === "keys"
        ? ["k"]
        : type === "entries"
        ? { k: 5 }
        : type === "seconds" || type === "uint32"
        ? 0
        : "t"
    );
    const alone = reader.send([name, ...values]).then(() => "done", ({ code }) => code);
    const together = reader.batch([["ping"], [name, ...values]]).then(() => "done", ({ code }) => code);
    const allowed = needs === "read";
    assert.equal(await alone !== "DENIED", allowed, name);
    assert.equal(await together !== "DENIED", allowed, name);
  }
  assert.deepEqual(await admin.all("t"), before);
  assert.deepEqual(await admin.tables(), ["t"]);
  assert.deepEqual(await admin.sets(), []);
  const lines = () => setting.lines.filter(({ event }) => event === "denied");
  assert.ok(lines().some(({ client, command }) => client === "writer" && command === "store"));
  // However often a client is refused, the log has ten lines a second at most.
  const [count, start] = [lines().length, performance.now()];
  await Promise.all(Array.from({ length: 200 }, () => assert.rejects(reader.set("t", "k", 1), denied)));
  const seconds = Math.floor((performance.now() - start) / 1000) + 2;
  assert.ok(lines().length - count <= 10 * seconds, `${lines().length - count} lines in ${seconds} s`);
});

Deno.test("no key, a wrong key, another host's key: no connection, an error that says so, a line in the log", async () => {
  await using setting = await Setting.start({ friend: "admin" });
  const friend = setting.client("friend");
  await friend.set("t", "secret", "x".repeat(100));
  const other = await makeKeys();
  for (
    const client of [setting.client(), setting.client("stranger"), setting.client("friend", other.publicKey)]
  ) {
    const start = performance.now();
    await assert.rejects(client.get("t", "secret"), {
      code: "DENIED",
      message: /the host at tcp:/,
    });
    assert.ok(performance.now() - start < 5 * SOON);
  }
  const refused = setting.lines.filter(({ event }) => event === "refused");
  assert.ok(refused.length > 0);
  const whys = refused.map(({ key, why }) => String(key ?? why));
  const stranger = setting.keys.get("stranger")!;
  for (const why of [/without a key/, /expects a host of another key/]) {
    assert.ok(whys.some((each) => why.test(each)), `${why} is not in the log: ${whys}`);
  }
  assert.ok(whys.includes(stranger), `the stranger's key is not in the log: ${whys}`);
  assert.equal(await friend.exists("t", "secret"), true);
  assert.throws(() => new MemStoreClient(setting.endpoint, { key: "x" }), TypeError);
});

Deno.test("a client whose key is removed is disconnected and not let in again, also where the list has a fault or is deleted", async () => {
  await using setting = await Setting.start({
    friend: "write",
    first: "read",
    second: "read",
    other: "admin",
  });
  const [friend, first, second, other] = ["friend", "first", "second", "other"].map((name) =>
    setting.client(name)
  );
  const cutOff = () => setting.lines.filter(({ why }) => /key is not authorized any more/.test(String(why)));
  const denied = async (client: MemStoreClient) => {
    // (What is pending when the connection is closed rejects with DISCONNECTED.)
    await client.get("t", "k").catch(() => {});
    await assert.rejects(client.get("t", "k"), { code: "DENIED" });
  };
  await friend.set("t", "k", 1);
  for (const client of [first, second, other]) assert.equal(await client.get("t", "k"), 1);
  const refused = () => friend.set("t", "k", 2).then(() => false, ({ code }) => code === "DENIED");
  setting.authorize({ friend: "read", first: "read", second: "read", other: "admin" });
  await until(refused, "the right is lowered");
  assert.equal(await friend.get("t", "k"), 2);
  // Nobody sends anything: the connection is closed all the same.
  setting.authorize({ friend: "read", second: "read", other: "admin" });
  await until(() => cutOff().length === 1, "the first is disconnected");
  await denied(first);
  setting.authorize({ friend: "read", other: "admin", stranger: "nonsense" });
  await until(() => cutOff().length === 2, "the second is disconnected");
  await denied(second);
  assert.equal(await friend.get("t", "k"), 2);
  assert.equal(await setting.client("other").get("t", "k"), 2);
  assert.ok(
    setting.lines.some(({ event, why }) => event === "authorized clients" && /:5: /.test(String(why))),
  );
  Deno.removeSync(`${setting.path}/clients`);
  await until(() => cutOff().length === 5, "all are disconnected");
  await denied(friend);
  await denied(other);
});

Deno.test("bytes that are no ZeroMQ, or ZeroMQ without keys, get no byte of data out", async () => {
  await using setting = await Setting.start({ friend: "admin" });
  await setting.client("friend").set("t", "k", "the secret value");
  const { port } = new URL(setting.endpoint.replace("tcp:", "http:"));
  const greeting = new Uint8Array(64);
  greeting.set([0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1]);
  greeting.set(new TextEncoder().encode("NULL"), 12);
  const get = [0, 0, 0x93, 0xa3, 0x67, 0x65, 0x74, 0xa1, 0x74, 0xa1, 0x6b];
  for (const bytes of [greeting, new TextEncoder().encode("GET / HTTP/1.0\r\n\r\n"), new Uint8Array(1000)]) {
    using connection = await Deno.connect({ hostname: "127.0.0.1", port: Number(port) });
    await connection.write(bytes);
    await connection.write(new Uint8Array(get)).catch(() => {});
    let received = "";
    const timer = setTimeout(() => connection.close(), 500);
    try {
      const buffer = new Uint8Array(1000);
      for (let length; (length = await connection.read(buffer)) !== null;) {
        received += new TextDecoder("latin1").decode(buffer.subarray(0, length));
      }
    } catch {
      // Cut, or nothing more came.
    }
    clearTimeout(timer);
    assert.ok(!received.includes("secret"), received);
    // (A greeting of 64 bytes, and an error command at the most.)
    assert.ok(received.length <= 128, `${received.length} bytes`);
  }
});

Deno.test("a host with a key needs a list, and serves ipc beside it without keys", async () => {
  await using directory = new TempDir();
  const key = `${directory.path}/host.key`;
  await writeKeys(key);
  const alone = new MemStore("tcp://127.0.0.1:*", { key });
  await assert.rejects(alone.start(), /the list of authorized clients is missing/);
  Deno.writeTextFileSync(`${directory.path}/clients`, "");
  const options = { key, authorizedClients: `${directory.path}/clients` };
  await using store = new MemStore(["tcp://0.0.0.0:*", `${directory.path}/a.sock`], options);
  await store.start();
  await using client = new MemStoreClient(`${directory.path}/a.sock`);
  assert.equal(await client.ping(), "pong");
});

Deno.test("a log that throws lets nobody in, and keeps nobody out", async () => {
  let thrown = 0;
  const log = (level: string) => {
    if (level !== "warning") return;
    thrown++;
    throw new Error("the disk of the log is full");
  };
  await using setting = await Setting.start({ friend: "admin" }, { log });
  await assert.rejects(setting.client("stranger").ping(), { code: "DENIED" });
  assert.ok(thrown > 0);
  assert.equal(await setting.client("friend").ping(), "pong");
});

Deno.test("a key with many connections makes room for others, and does not end theirs", async () => {
  await using setting = await Setting.start({ many: "read", few: "admin", last: "read" }, {
    limits: { clients: 8 },
  });
  const few = setting.client("few");
  await few.set("t", "k", 1);
  // (Its connection is idle for longer than all of those.)
  const { clients } = await few.stats();
  const calls = Array.from(
    { length: 12 },
    async () => await setting.client("many").get("t", "k").catch(() => 1),
  );
  assert.deepEqual(await Promise.all(calls), Array(12).fill(1));
  assert.equal(clients, 1);
  for (let i = 0; i < 4; i++) assert.equal(await setting.client("last").get("t", "k"), 1);
  assert.equal(await few.get("t", "k"), 1);
});

Deno.test("the command line makes keys, and asks a host with them", async () => {
  await using setting = await Setting.start({ friend: "read" });
  const run = async (...args: string[]) => {
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--allow-all", `${ROOT}cli.ts`, ...args],
      cwd: setting.path,
      signal: AbortSignal.timeout(60_000),
    }).output();
    return { code, text: new TextDecoder().decode(stdout), error: new TextDecoder().decode(stderr) };
  };
  const made = await run("keygen", "made.key");
  assert.equal(made.text, Deno.readTextFileSync(`${setting.path}/made.key.pub`));
  assert.equal((await run("keygen", "made.key")).code, 1);
  const keys = ["--key", "friend.key", "--server-key", "host.key.pub"];
  assert.equal((await run("-e", setting.endpoint, ...keys, "ping")).text, '"pong"\n');
  // The same from a settings file.
  const file = { client: { endpoint: setting.endpoint, key: "friend.key", serverKey: "host.key.pub" } };
  Deno.writeTextFileSync(`${setting.path}/client.json`, JSON.stringify(file));
  assert.equal((await run("--config", "client.json", "ping")).text, '"pong"\n');
  assert.equal((await run("--config", "client.json", "endpoint")).text, `${setting.endpoint}\n`);
  const denied = await run("-e", setting.endpoint, ...keys, "set", "t", "k", "1");
  assert.deepEqual([denied.code, /right write/.test(denied.error)], [1, true]);
});

Deno.test("memstore serve takes its key and its clients as flags, and serves nobody without one", async () => {
  await using setting = await Setting.start({ friend: "admin" });
  const at = (name: string) => `${setting.path}/${name}`;
  await using host = await Host.start(
    "tcp://127.0.0.1:*",
    "--key",
    at("host.key"),
    "--authorized-clients",
    at("clients"),
  );
  const [endpoint] = host.addresses;
  await using friend = new MemStoreClient(endpoint, { key: at("friend.key"), serverKey: at("host.key.pub") });
  assert.equal(await friend.set("t", "k", 1), 1);
  await using plain = new MemStoreClient(endpoint, { timeout: SOON });
  await assert.rejects(plain.get("t", "k"), { code: "DENIED" });
});

const python = await new Deno.Command(PYTHON, {
  args: ["-c", "import zmq, msgpack; assert zmq.has('curve')"],
  stderr: "null",
}).output().then(({ success }) => success, () => false);

Deno.test({
  name: "a Python client with a key is served, and refused what it may not" +
    (python ? "" : " [ignored: python3-zmq or python3-msgpack is not installed]"),
  // In CI they are installed: there their absence is a failure.
  ignore: !python && Deno.env.get("CI") === undefined,
  async fn() {
    await using setting = await Setting.start({ friend: "read" });
    const code = `
import msgpack, zmq
key = lambda path: open(path).read().strip().encode()
socket = zmq.Context().socket(zmq.REQ)
socket.curve_secretkey, socket.curve_publickey = key("friend.key"), key("friend.key.pub")
socket.curve_serverkey = key("host.key.pub")
socket.connect("${setting.endpoint}")
for command in [["ping"], ["set", "t", "k", 1], ["get", "new table", "k"], ["tables"]]:
    socket.send(msgpack.packb(command))
    print(msgpack.unpackb(socket.recv()))`;
    const { stdout, stderr } = await new Deno.Command(PYTHON, {
      args: ["-c", code],
      cwd: setting.path,
      signal: AbortSignal.timeout(30_000),
    }).output();
    // (Asking for a key makes a table for legacy clients, but not for one that may only read.)
    assert.equal(new TextDecoder().decode(stdout), "pong\n-1\nNone\n[]\n", new TextDecoder().decode(stderr));
  },
});
