/** The Redis servers and clusters that the tests start: that they do what their names say, and leave nothing behind. */

import assert from "node:assert/strict";
import { RedisCluster, RedisServer, testWithRedis as test } from "./redis.ts";

/** Whether a process runs. */
const runs = (pid: number) =>
  new Deno.Command("kill", { args: ["-0", `${pid}`], stderr: "null" }).outputSync().success;

test("a server of the tests serves, can be killed and started again, and ends with its block", async () => {
  let pid: number;
  {
    await using server = await RedisServer.start({ password: "secret" });
    assert.equal(server.url, `redis://:secret@127.0.0.1:${server.port}`);
    assert.equal(await server.cli("PING"), "PONG");
    await server.cli("SET", "k", "v");
    await server.kill();
    await assert.rejects(server.cli("PING"), /Cannot run redis-cli/);
    await server.restart();
    assert.equal(await server.cli("EXISTS", "k"), "0");
    pid = server.pid!;
    assert.ok(runs(pid));
  }
  assert.ok(!runs(pid));
});

test("a cluster of the tests is resharded, stopped and started, and ends with its block", async () => {
  let pids: number[];
  {
    await using cluster = await RedisCluster.start();
    pids = cluster.nodes.map(({ pid }) => pid!);
    const [first, second] = cluster.nodes;
    for (let i = 0; i < 60; i++) await first.cli("-c", "HSET", `{${i}}`, "a", "1", "b", "2");
    assert.equal((await cluster.entries()).reduce((a, b) => a + b), 120);
    const [before] = await cluster.entries();
    await cluster.reshard(first, second, 1000);
    const [after] = await cluster.entries();
    assert.ok(after < before, `${before} ${after}`);
    assert.equal((await cluster.entries()).reduce((a, b) => a + b), 120);
    await cluster.flush();
    assert.deepEqual(await cluster.entries(), [0, 0, 0]);
    await cluster.stop();
    await cluster.restart();
    pids.push(...cluster.nodes.map(({ pid }) => pid!));
  }
  assert.deepEqual(pids.filter(runs), []);
});

test("a replica of the tests' cluster takes over from a master that is killed, with its data", async () => {
  await using cluster = await RedisCluster.start({ replicas: 1, nodeTimeout: 1000 });
  assert.equal((await cluster.masters()).length, 3);
  for (let i = 0; i < 30; i++) await cluster.nodes[0].cli("-c", "HSET", `{${i}}`, "a", "1");
  const [killed] = await cluster.masters();
  const replica = await cluster.replicaOf(killed);
  await killed.kill();
  await cluster.failedOver(killed);
  const masters = await cluster.masters();
  assert.ok(masters.length === 3 && masters.includes(replica) && !masters.includes(killed));
  assert.equal((await cluster.entries()).reduce((a, b) => a + b), 30);
});
