/** The traps of an edge-triggered descriptor, one by one. */

import assert from "node:assert/strict";
import { ZMQ } from "../wire/libzmq.ts";
import { Context } from "../wire/socket.ts";
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
