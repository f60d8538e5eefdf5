/** S3, against a server of its own: large states, connections that are cut, and errors of the server. */

import assert from "node:assert/strict";
import { MemStoreClient, S3MemStore } from "@memstore/memstore";
import { parseS3, S3Object } from "../state/s3.ts";
import { Host, TempDir } from "./host.ts";
import { CREDENTIALS, type Cut, CuttingProxy, S3Server } from "./s3_server.ts";

const MIB = 1 << 20;
/** What a transfer may take beside the data: parts in flight, the SDK, and garbage that V8 has not collected yet. */
const STORE_BYTES = 64 * MIB;
const RESTORE_BYTES = 128 * MIB;
const S3_ENVIRONMENT = {
  AWS_ACCESS_KEY_ID: CREDENTIALS.accessKeyId,
  AWS_SECRET_ACCESS_KEY: CREDENTIALS.secretAccessKey,
};

/** So many pieces of one MiB, all in the same buffer. */
function* pieces(count: number, byte = 0): Generator<Uint8Array> {
  const piece = new Uint8Array(MIB);
  for (let i = 0; i < count; i++) yield piece.fill(byte + i);
}

async function bytesOf(object: S3Object): Promise<Uint8Array> {
  const stored = await object.read();
  assert.ok(stored);
  const bytes = new Uint8Array(
    await new Response(stored.pieces as ReadableStream<Uint8Array<ArrayBuffer>>).arrayBuffer(),
  );
  assert.equal(bytes.length, stored.size);
  return bytes;
}

function assertPieces(bytes: Uint8Array, count: number, byte = 0): void {
  assert.equal(bytes.length, count * MIB);
  for (let i = 0; i < count; i++) {
    assert.equal(bytes[i * MIB], byte + i);
    assert.equal(bytes[(i + 1) * MIB - 1], byte + i);
  }
}

Deno.test("parseS3() takes s3://bucket/key, and nothing else", () => {
  assert.deepEqual(parseS3("s3://states/a/b.msgpack"), { bucket: "states", key: "a/b.msgpack" });
  for (const text of ["s3://states", "s3://states/", "s3:///key", "states/key", "S3://a/b", ""]) {
    assert.equal(parseS3(text), undefined);
  }
});

Deno.test("states go to S3 and come back, whole or in parts, and an object that is not there is none", async () => {
  await using server = new S3Server();
  const options = { endpoint: server.endpoint, ...CREDENTIALS };
  const object = new S3Object("states", "a/state", options);
  assert.equal(await object.read(), undefined);
  await object.write(pieces(1));
  assertPieces(await bytesOf(object), 1);
  await object.write(pieces(30, 7));
  assertPieces(await bytesOf(object), 30, 7);
  assert.equal(server.objects.get("states/a/state")?.type, "application/x-msgpack");
  assert.equal(server.unfinished, 0);
  const stored = await object.read();
  await stored!.pieces.cancel();
});

Deno.test("an upload that breaks off leaves the object that was there, and no parts", async () => {
  await using server = new S3Server();
  const object = new S3Object("states", "state", { endpoint: server.endpoint, ...CREDENTIALS });
  await object.write(pieces(2, 50));
  const broken = function* () {
    yield* pieces(20);
    throw new Error("the pieces ended");
  };
  await assert.rejects(object.write(broken()), new Error("the pieces ended"));
  assertPieces(await bytesOf(object), 2, 50);
  assert.equal(server.unfinished, 0);
  const both = await Promise.allSettled([object.write(pieces(1)), object.write(pieces(1))]);
  assert.match(String((both[1] as PromiseRejectedResult).reason), /another store to it is running/);
});

Deno.test("connections that are cut, up or down, are errors that say so; state and object stay whole", async () => {
  await using server = new S3Server();
  await using proxy = new CuttingProxy(server.endpoint);
  const direct = new S3Object("states", "state", { endpoint: server.endpoint, ...CREDENTIALS });
  const object = new S3Object("states", "state", { endpoint: proxy.endpoint, ...CREDENTIALS });
  await direct.write(pieces(20));
  for (const up of [0, 100, 5000, 4 * MIB]) {
    proxy.cut = { up };
    await assert.rejects(object.write(pieces(20, 100)), (error: Error) => {
      assert.ok(error.message.includes("the connection was cut"), error.message);
      return true;
    }, `${up}`);
  }
  for (const down of [0, 10, 1000, 5 * MIB, 20 * MIB]) {
    proxy.cut = { down } satisfies Cut;
    await assert.rejects(bytesOf(object), (error: Error) => {
      assert.ok(error.message.includes("the connection was cut"), error.message);
      if (down >= MIB) assert.match(error.message, /after \d+ of 20971520 bytes/);
      return true;
    }, `${down}`);
  }
  assertPieces(await bytesOf(direct), 20);
  proxy.cut = {};
  assertPieces(await bytesOf(object), 20);
});

/** What a server answers that is no S3 server at all, but says what one would. */
async function withAnswer(
  status: number,
  code: string,
  run: (endpoint: string) => Promise<void>,
): Promise<void> {
  const xml = `<?xml version="1.0"?><Error><Code>${code}</Code><Message>of the server</Message></Error>`;
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    () => new Response(xml, { status, headers: { "content-type": "application/xml" } }),
  );
  await run(`http://127.0.0.1:${server.addr.port}`);
}

Deno.test("what a server refuses is named: bucket, rights, clock, and a server that is not there", async () => {
  await using server = new S3Server();
  const { endpoint } = server;
  const secret = "a-secret-that-is-nowhere";
  const fails = async (object: S3Object, why: RegExp) => {
    const shown = (error: Error) => {
      assert.match(error.message, why);
      assert.ok(!Deno.inspect(error).includes(secret));
      return true;
    };
    await assert.rejects(object.write(pieces(1)), shown);
    await assert.rejects(object.read(), shown);
  };
  await fails(new S3Object("nowhere", "key", { endpoint, ...CREDENTIALS }), /^the bucket does not exist$/);
  const wrong = { accessKeyId: "NOBODY", secretAccessKey: secret };
  await fails(new S3Object("states", "key", { endpoint, ...wrong }), /^access is denied: .* access key$/);
  const down = { endpoint: "http://127.0.0.1:1", ...wrong };
  await fails(
    new S3Object("states", "key", down),
    /^cannot reach http:\/\/127.0.0.1:1: nothing answers there$/,
  );
  for (
    const [status, code, why] of [
      [403, "RequestTimeTooSkewed", /^the clock of this machine differs too much from the server's$/],
      [403, "SignatureDoesNotMatch", /^access is denied: the secret key is wrong$/],
      [403, "AccessDenied", /^access is denied$/],
      [403, "SomethingElse", /^access is denied$/],
      [400, "InvalidRequest", /^InvalidRequest: of the server$/],
    ] as const
  ) {
    await withAnswer(
      status,
      code,
      (endpoint) => fails(new S3Object("states", "key", { endpoint, ...wrong }), why),
    );
  }
});

Deno.test("a region that is not known is named, with the setting", async () => {
  const config = ["AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"];
  const before = config.map((name) => [name, Deno.env.get(name)] as const);
  for (const name of config) name.endsWith("FILE") ? Deno.env.set(name, "/dev/null") : Deno.env.delete(name);
  try {
    const object = new S3Object("states", "state", CREDENTIALS);
    const why = {
      message: "the region of the bucket is not known: set s3.region (--s3-region) or AWS_REGION",
    };
    await assert.rejects(object.read(), why);
    await assert.rejects(object.write(pieces(1)), why);
  } finally {
    for (const [name, value] of before) {
      value === undefined ? Deno.env.delete(name) : Deno.env.set(name, value);
    }
  }
});

Deno.test("an S3MemStore keeps its state in S3; s3store and s3restore reach any object", async () => {
  await using server = new S3Server();
  await using directory = new TempDir();
  const options = { bucket: "states", key: "jobs", endpoint: server.endpoint, ...CREDENTIALS };
  {
    await using store = new S3MemStore(`${directory.path}/a.sock`, options);
    await store.start();
    await using client = new MemStoreClient(store.endpoints[0]);
    await client.set("t", "k", 1);
    assert.equal((await client.s3store("states", "other.gz"))[0], "stored");
    await client.set("t", "k", 2);
  }
  await using store = new S3MemStore(`${directory.path}/b.sock`, options);
  await store.start();
  await using client = new MemStoreClient(store.endpoints[0]);
  assert.equal(await client.get("t", "k"), 2);
  assert.equal((await client.s3restore("states", "other.gz"))[0], "restored");
  assert.equal(await client.get("t", "k"), 1);
  await assert.rejects(client.s3restore("states", "none"), {
    code: "FAILED",
    message: "Cannot restore from s3://states/none: nothing is there",
  });
  await assert.rejects(client.s3store("nowhere", "key"), {
    code: "FAILED",
    message: "Cannot store to s3://nowhere/key: the bucket does not exist",
  });
  const lost = new S3MemStore(`${directory.path}/c.sock`, { ...options, bucket: "nowhere" });
  await assert.rejects(lost.start(), {
    message: "Cannot restore from s3://nowhere/jobs: the bucket does not exist",
  });
  assert.equal(await client.get("t", "k"), 1);
});

Deno.test("to store to S3 and to restore from it take little memory beside the data", async () => {
  await using server = new S3Server();
  const SIZE = 200e6;
  const value = crypto.getRandomValues(new Uint8Array(50_000));
  /** How much the memory of a host grows beyond what it has, meanwhile. */
  const growth = async (client: MemStoreClient, work: Promise<unknown>) => {
    const { memory } = await client.stats();
    let done = false, most = 0;
    const working = work.finally(() => done = true);
    while (!done) most = Math.max(most, (await client.stats()).memory - memory);
    await working;
    return most;
  };
  const flags = ["--s3-endpoint", server.endpoint];
  const start = () => Host.startWith({ flags, task: "compile", env: S3_ENVIRONMENT });
  {
    await using host = await start();
    await using client = new MemStoreClient(host.endpoint, { timeout: 60_000 });
    // (The SDK itself takes memory, once.)
    await client.s3store("states", "first");
    for (let i = 0; i < SIZE / value.length; i += 100) {
      await Promise.all(Array.from({ length: 100 }, (_, j) => client.set("t", i + j, value)));
    }
    const most = await growth(client, client.s3store("states", "state"));
    assert.ok(most < STORE_BYTES, `storing 200 MB took ${most >> 20} MiB`);
  }
  await using host = await start();
  await using client = new MemStoreClient(host.endpoint, { timeout: 60_000 });
  const most = await growth(client, client.s3restore("states", "state"));
  assert.ok(most > 150e6, "nothing was measured");
  assert.ok(most < SIZE + RESTORE_BYTES, `restoring 200 MB took ${(most - SIZE) >> 20} MiB beside the data`);
  assert.deepEqual(await client.get("t", 3999), value);
});
