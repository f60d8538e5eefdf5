/**
 * The torture of direct reads: readers, some of which are killed again and again, beside writers that never rest. Every
 * value says by itself whether it is whole, and a ledger says which ones may be seen. At the end the host is killed
 * in the middle of a write. `SOAK_SECONDS=600 deno task test tests/direct_soak_test.ts` goes on for ten minutes.
 */

import assert from "node:assert/strict";
import { MemStoreClient } from "../mod.ts";
import { EPOCH, Ledger, READS, READY, WRITERS } from "./direct_ledger.ts";
import { Host, TempDir } from "./host.ts";

const SECONDS = Number(Deno.env.get("SOAK_SECONDS") ?? 6);
const READERS = 8;
/** The readers that are killed and started again. */
const VICTIMS = [0, 1, 3];
/** How soon a reader notices that its host was killed, in milliseconds, on a machine on which many others run. */
const NOTICE_MS = 8000;
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** A process of the torture, which is killed at the end of the block if it still lives. */
class Child implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly output: Promise<Deno.CommandOutput>;
  readonly name: string;
  ended = false;

  constructor(file: string, ...args: string[]) {
    this.name = `${file} ${args.at(-1)}`;
    this.#process = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-lock", "--allow-all", new URL(file, import.meta.url).pathname, ...args],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.output = this.#process.output();
    this.output.then(() => this.ended = true);
  }

  /** Its code, and what it said. */
  async end(): Promise<{ code: number; text: string }> {
    const { code, stdout, stderr } = await this.output;
    const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes).trim());
    return { code, text: err || out };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#process.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await this.output;
  }
}

/** The descriptors of a process: where each leads. */
async function descriptors(pid: number): Promise<string[]> {
  // (Deno itself lets nobody read there without all permissions.)
  const script = `ls -l /proc/${pid}/fd | sed -n "s/.*-> //p"`;
  const { stdout } = await new Deno.Command("sh", { args: ["-c", script] }).output();
  return new TextDecoder().decode(stdout).trim().split("\n");
}

async function until(what: string, holds: () => boolean | Promise<boolean>, seconds = 60): Promise<void> {
  for (const end = performance.now() + seconds * 1000; !await holds(); await sleep(20)) {
    assert.ok(performance.now() < end, `not within ${seconds} s: ${what}`);
  }
}

Deno.test({
  name: `direct reads are whole, of now, and end with the host, for ${SECONDS} s`,
  ignore: Deno.build.os !== "linux" || Deno.build.arch !== "x86_64",
  async fn(test) {
    using ledger = Ledger.create();
    await using directory = new TempDir();
    await using host = await Host.startWith({
      flags: ["--max-memory", "24MB", "--data-dir", directory.path],
    });
    await using client = new MemStoreClient(host.endpoint, { timeout: 60_000 });
    await client.ping();
    await using children = new AsyncDisposableStack();
    const start = (file: string, ...args: string[]) => {
      return children.use(new Child(file, host.endpoint, ledger.place, ...args));
    };
    const writers = Array.from({ length: WRITERS }, (_, i) => start("direct_writer.ts", `${i}`));
    const alive = () => {
      for (const child of [...writers, ...readers]) if (child.ended) return false;
      return true;
    };
    const readers: Child[] = [];
    /** Fails if a process has ended, with what it said. */
    const checkAlive = async () => {
      if (alive()) return;
      const said = [...writers, ...readers].filter(({ ended }) => ended).map((child) => child.end());
      assert.fail(`a process has ended: ${JSON.stringify(await Promise.all(said))}`);
    };
    await until("the writers have begun", async () => {
      await checkAlive();
      return writers.every((_, i) => ledger.load(READY + i) === 1);
    });
    writers.push(start("direct_writer.ts", "state", `${directory.path}/state`));
    for (let i = 0; i < READERS; i++) readers.push(start("direct_reader.ts", `${i}`));
    const reads = () => readers.map((_, i) => ledger.load(READS + i));
    await until("all readers read", async () => {
      await checkAlive();
      return reads().every((count) => count > 0);
    });

    const before = await descriptors(host.pid);
    let killed = 0;
    for (const end = performance.now() + SECONDS * 1000; performance.now() < end;) {
      await sleep(100 + Math.random() * 900);
      await checkAlive();
      const victim = VICTIMS[Math.floor(Math.random() * VICTIMS.length)], last = ledger.load(READS + victim);
      await readers[victim][Symbol.asyncDispose]();
      killed++;
      readers[victim] = start("direct_reader.ts", `${victim}`);
      await until("a reader that was killed has a successor", async () => {
        await checkAlive();
        return ledger.load(READS + victim) > last;
      });
    }

    await test.step("nobody is stuck, and readers that were killed have left nothing in the host", async () => {
      const counts = reads();
      await until("every reader goes on", async () => {
        await checkAlive();
        return reads().every((count, i) => count > counts[i] + 10);
      });
      let after = before;
      // (Heaps that a restore has replaced are given back in steps.)
      const more = async () => (after = await descriptors(host.pid)).length > before.length + 6;
      await until(`no descriptors are left: ${before.length} before`, async () => !await more()).catch(
        (error) => {
          throw new Error(`${error.message}: ${after.join(", ")}`);
        },
      );
      // (Some are of the client of this process.)
      assert.ok((await client.stats()).lanes <= READERS + WRITERS + 2);
    });

    const stats = await client.stats();
    const total = reads().reduce((sum, each) => sum + each, 0);
    const direct = stats.direct_reads / (stats.direct_reads + stats.direct_fallbacks);
    const figures = `${total} checks, ${killed} readers killed, ${ledger.load(EPOCH) >> 1} restores; ` +
      `now: ${stats.direct_reads} direct reads (${(100 * direct).toFixed(1)} %), ` +
      `${stats.direct_retries} retries, ${stats.direct_fallbacks} fallbacks; heap ${stats.heap}`;
    await test.step(figures, () => assert.ok(direct > 0.5, "reads were direct"));

    await test.step("the host is killed in the middle of a write, and every reader ends", async () => {
      await checkAlive();
      const start = performance.now();
      host.kill("SIGKILL");
      const times = await Promise.all([...writers, ...readers].map(async (child) => {
        await until(`${child.name} ends`, () => child.ended, NOTICE_MS / 1000);
        const { code, text } = await child.end();
        assert.equal(code, 0, text);
        return performance.now() - start;
      }));
      console.log(`    ended within ${Math.max(...times).toFixed(0)} ms`);
    });
  },
});
