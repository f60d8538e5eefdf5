// zeromq.js under Node: a REP that echoes, and a REQ that asks, each in a process of its own.
// usage: node zeromq.mjs serve ENDPOINT | node zeromq.mjs ask ENDPOINT SECONDS (prints microseconds a request)
import { Reply, Request } from "zeromq";

const [role, endpoint, seconds] = process.argv.slice(2);
if (role === "serve") {
  const socket = new Reply();
  await socket.bind(endpoint);
  console.log("ready");
  for await (const [message] of socket) await socket.send(message);
} else {
  const socket = new Request();
  socket.connect(endpoint);
  const message = Buffer.alloc(35);
  const ask = async () => {
    await socket.send(message);
    await socket.receive();
  };
  for (let i = 0; i < 500; i++) await ask();
  const start = performance.now(), end = start + seconds * 1000;
  let count = 0;
  for (; performance.now() < end; count++) await ask();
  console.log((performance.now() - start) / count * 1000);
  process.exit();
}
