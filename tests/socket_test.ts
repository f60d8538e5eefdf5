/** The pitfalls of an edge-triggered descriptor, one by one. */

import assert from "node:assert/strict";
import { ZMQ } from "../transport/zeromq/libzmq.ts";
import { listen } from "../transport/zeromq/listen.ts";
import { Context } from "../transport/zeromq/context.ts";
import { MAX_FRAMES } from "../transport/zeromq/frames.ts";
import { TempDir } from "./host.ts";

const ping = new TextEncoder().encode("ping");

/** Fails where a promise takes longer than any wake-up does. */
async function soon<T>(promise: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error("The wake-up was lost")), 3000);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

Deno.test("Socket.wait() returns when the peer was connected since the state was last looked at", async () => {
  await using directory = new TempDir();
  const address = `ipc://${directory.path}/socket`;
  const context = await Context.open();
  const client = context.socket(ZMQ.DEALER, { linger: 0, watchPeer: true, reconnectInterval: 10 });
  const host = context.socket(ZMQ.ROUTER, { linger: 0 });
  try {
    client.connect(address);
    assert.equal(client.peer, "none");
    host.bind(address);
    // The connection is made by libzmq's own thread, while nobody looks.
    await pause(200);
    await soon(client.wait());
    assert.equal(client.peer, "connected");
    host.close();
    while (client.peer === "connected") await soon(client.wait());
    assert.equal(client.peer, "lost");
  } finally {
    client.close();
    host.close();
    await context.close();
  }
});

Deno.test("Socket.send() during a wait ends it if it swallowed the edge of a message", async () => {
  await using directory = new TempDir();
  const address = `ipc://${directory.path}/socket`;
  const context = await Context.open();
  const a = context.socket(ZMQ.PAIR, { linger: 0 });
  const b = context.socket(ZMQ.PAIR, { linger: 0 });
  try {
    a.bind(address);
    b.connect(address);
    while (!b.writable) await soon(b.wait());
    for (let i = 0; i < 200; i++) {
      while (a.receive());
      const waiting = a.readable ? undefined : a.wait();
      b.send([ping]);
      a.send([ping]);
      await soon(Promise.resolve(waiting));
      while (!a.readable) await soon(a.wait());
    }
  } finally {
    a.close();
    b.close();
    await context.close();
  }
});

Deno.test("Socket.wake() and Socket.close() end a wait", async () => {
  const context = await Context.open();
  const socket = context.socket(ZMQ.ROUTER, { linger: 0 });
  const woken = socket.wait();
  socket.wake();
  await soon(woken);
  const closed = socket.wait();
  socket.close();
  await soon(closed);
  await soon(socket.wait());
  assert.equal(socket.receive(), undefined);
  assert.equal(socket.send([ping]), false);
  await context.close();
});

Deno.test("a socket that is closed while it connects does not stop the thread that serves all", async () => {
  await using directory = new TempDir();
  const address = `ipc://${directory.path}/socket`;
  const context = await Context.open();
  const host = context.socket(ZMQ.ROUTER, { linger: 0 });
  host.bind(address);
  const connect = () => {
    const client = context.socket(ZMQ.DEALER, { linger: 0, watchPeer: true, reconnectInterval: 1 });
    client.connect(address);
    return client;
  };
  try {
    for (let i = 0; i < 500; i++) {
      const client = connect();
      // (Each at another moment of the handshake.)
      for (const end = performance.now() + i % 20 / 20; performance.now() < end;);
      client.close();
    }
    const last = connect();
    while (last.peer === "none") await soon(last.wait());
    assert.equal(last.peer, "connected");
    last.close();
  } finally {
    host.close();
    await soon(context.close());
  }
});

Deno.test("Socket.peer during a wait ends it if it is the first to see that the peer is lost", async () => {
  await using directory = new TempDir();
  const address = `ipc://${directory.path}/socket`;
  const context = await Context.open();
  const host = context.socket(ZMQ.ROUTER, { linger: 0 });
  host.bind(address);
  const client = context.socket(ZMQ.DEALER, { linger: 0, watchPeer: true, reconnectInterval: 10 });
  try {
    client.connect(address);
    while (client.peer === "none") await soon(client.wait());
    const lost = (async () => {
      while (client.peer === "connected") await client.wait();
    })();
    await pause(50);
    host.close();
    // Nothing else of the process runs meanwhile, so this sees it first.
    for (const end = performance.now() + 1000; client.peer === "connected" && performance.now() < end;);
    await soon(lost);
    assert.equal(client.peer, "lost");
  } finally {
    client.close();
    host.close();
    await context.close();
  }
});

Deno.test({
  name: "Context.close() waits for the last messages, also when signals interrupt it",
  ignore: Deno.build.os !== "linux",
  async fn() {
    await using directory = new TempDir();
    const address = `ipc://${directory.path}/socket`;
    const [context, other] = [await Context.open(), await Context.open()];
    const libc = Deno.dlopen("libc.so.6", {
      tgkill: { parameters: ["i32", "i32", "i32"], result: "i32" },
    });
    const SIGUSR1 = 10;
    const ignore = () => {};
    Deno.addSignalListener("SIGUSR1", ignore);
    const reader = other.socket(ZMQ.DEALER, { linger: 0 });
    const writer = context.socket(ZMQ.DEALER, { linger: 10_000 });
    try {
      writer.connect(address);
      writer.send([ping]);
      writer.close();
      let closed = false;
      const closing = context.close().then(() => closed = true);
      await pause(50);
      const { stdout } = new Deno.Command("ls", { args: [`/proc/${Deno.pid}/task`] }).outputSync();
      const threads = new TextDecoder().decode(stdout).trim().split("\n");
      for (let i = 0; i < 20; i++) {
        await pause(5);
        for (const thread of threads) libc.symbols.tgkill(Deno.pid, Number(thread), SIGUSR1);
      }
      assert.equal(closed, false, "it ended though a message had not left");
      reader.bind(address);
      while (!reader.readable) await soon(reader.wait());
      assert.deepEqual(reader.receive(), [ping]);
      await soon(closing);
    } finally {
      Deno.removeSignalListener("SIGUSR1", ignore);
      libc.close();
      reader.close();
      await other.close();
    }
  },
});

Deno.test("a peer that goes away once while it shakes hands has refused nobody; one that always does has", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const context = await Context.open();
  const client = context.socket(ZMQ.DEALER, { linger: 0, watchPeer: true, reconnectInterval: 10 });
  const hangUp = async () => (await listener.accept()).close();
  const look = async (ms: number) => {
    for (const end = performance.now() + ms; performance.now() < end && !client.refused; await pause(5)) {
      void client.peer;
    }
  };
  try {
    client.connect(`tcp://127.0.0.1:${listener.addr.port}`);
    await hangUp();
    await look(100);
    assert.equal(client.refused, false);
    for (let i = 0; i < 3; i++) await hangUp();
    await look(3000);
    assert.equal(client.refused, true);
  } finally {
    client.close();
    listener.close();
    await context.close();
  }
});

Deno.test("a message of a thousand frames is cut short, and the next is whole", async () => {
  await using directory = new TempDir();
  const address = `ipc://${directory.path}/socket`;
  const context = await Context.open();
  const [a, b] = [context.socket(ZMQ.PAIR, { linger: 0 }), context.socket(ZMQ.PAIR, { linger: 0 })];
  try {
    a.bind(address);
    b.connect(address);
    while (!b.writable) await soon(b.wait());
    b.send(Array.from({ length: 1000 }, () => ping));
    b.send([ping, ping]);
    while (!a.readable) await soon(a.wait());
    assert.equal(a.receive()?.length, MAX_FRAMES);
    assert.deepEqual(a.receive(), [ping, ping]);
  } finally {
    a.close();
    b.close();
    await context.close();
  }
});

Deno.test("an address that could not be served is free for others", async () => {
  await using directory = new TempDir();
  const path = `${directory.path}/socket`;
  const context = await Context.open();
  const sockets = [1, 2].map(() => context.socket(ZMQ.ROUTER, { linger: 0 }));
  try {
    Deno.writeTextFileSync(path, "");
    await assert.rejects(listen(context, sockets[0], `ipc://${path}`), /a file is there that is no socket/);
    Deno.removeSync(path);
    assert.deepEqual(Array.from(Deno.readDirSync(directory.path)), []);
    const listening = await listen(context, sockets[1], `ipc://${path}`);
    listening.hide();
    listening.release();
  } finally {
    sockets.forEach((socket) => socket.close());
    await context.close();
  }
});
