/**
 * A writer of the torture of direct reads, without pause: `direct_writer.ts ENDPOINT LEDGER NUMBER`; and the one that
 * stores and restores the state: `direct_writer.ts ENDPOINT LEDGER state FILE`. Both end when the host does.
 */

import { attach, MemStoreClient, MemStoreError } from "../mod.ts";
import {
  ABSENT,
  EPOCH,
  EXPIRING,
  GROUPS,
  Ledger,
  MEMBERS,
  PAUSE,
  PAUSED,
  pick,
  POISON,
  PRESENT,
  READY,
  SETS,
  SINGLES,
  SLOTS,
  STEADY,
  valueOf,
  WRITERS,
} from "./direct_ledger.ts";

const [endpoint, place, number, file] = Deno.args;
const ledger = Ledger.open(place);
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const below = (n: number) => Math.floor(Math.random() * n);

/** Ends the process, at once: each further call would wait for another host. */
function end(error: unknown): never {
  const ended = error instanceof MemStoreError && ["DISCONNECTED", "UNAVAILABLE"].includes(error.code);
  if (!ended) console.error(error);
  Deno.exit(ended ? 0 : 4);
}

/** Writes. Returns whether there was room for it. */
async function written(run: () => unknown): Promise<boolean> {
  try {
    await run();
    return true;
  } catch (error) {
    if (error instanceof MemStoreError && error.code === "OUT_OF_MEMORY") return false;
    end(error);
  }
}

/** Writes until the host ends. */
async function write(writer: number): Promise<void> {
  const store = writer % 2 ? new MemStoreClient(endpoint) : await attach(endpoint);
  const base = writer * SLOTS,
    table = `single${writer}`,
    steady = `steady${writer}`,
    groups = `group${writer}`;
  let counter = 0;
  /** Makes a write of some slots, and notes it. */
  const change = async (slots: number[], kind: number, run: (version: number) => unknown) => {
    const version = ++counter * 16 + kind, { acked, prev, began } = ledger;
    for (const slot of slots) {
      Atomics.store(prev, slot, acked[slot]);
      Atomics.store(began, slot, version);
    }
    if (!await written(() => run(version))) return;
    for (const slot of slots) Atomics.store(acked, slot, version);
  };
  /** Writes a slot again and again, without waiting for the replies: readers meet writes that are under way. */
  const burst = async (slot: number, run: (version: number) => unknown) => {
    const { acked, prev, began } = ledger, versions: number[] = [];
    Atomics.store(prev, slot, -1);
    const calls = Array.from({ length: 24 }, () => {
      const version = ++counter * 16 + PRESENT;
      versions.push(version);
      Atomics.store(began, slot, version);
      return written(() => run(version));
    });
    const last = (await Promise.all(calls)).lastIndexOf(true);
    if (last >= 0) Atomics.store(acked, slot, versions[last]);
  };
  const singles = Array.from({ length: SINGLES }, (_, i) => base + i);

  const single = async () => {
    const key = pick(SINGLES), slot = base + key, what = below(12);
    if (what < 6) {
      await change([slot], PRESENT, (version) => store.set(table, key, valueOf(slot, key, version)));
    } else if (what < 8) {
      await change([slot], ABSENT, () => what === 6 ? store.del(table, key) : store.pop(table, key));
    } else if (what === 8) {
      const options = { seconds: 0.001 * (1 + below(40)) };
      await change(
        [slot],
        EXPIRING,
        (version) => store.set(table, key, valueOf(slot, key, version), options),
      );
    } else if (what === 9) {
      const options = { seconds: 600 };
      await change([slot], PRESENT, async (version) => {
        await store.set(table, key, valueOf(slot, key, version), options);
        await store.persist(table, key);
      });
    } else if (what === 10) {
      await change([slot], ABSENT, () => store.expire(table, key, 0));
    } else {
      await change([slot], PRESENT, (version) => {
        const value = valueOf(slot, key, version);
        return store.batch([["del", table, key], ["set_new", table, key, value]]);
      });
    }
  };
  const steadily = async (i = pick(STEADY)) => {
    const slot = base + SINGLES + i;
    await change([slot], PRESENT, (version) => store.set(steady, i, valueOf(slot, i, version)));
  };
  const group = async () => {
    const i = pick(GROUPS), slot = base + SINGLES + STEADY + i, what = below(8);
    const key = (member: number) => `${i}.${member}`;
    if (what < 3) {
      await change([slot], PRESENT, (version) =>
        store.batch(MEMBERS.map((member) => {
          return ["set", groups, key(member), valueOf(slot, key(member), version)];
        })));
    } else if (what < 5) {
      await change([slot], PRESENT, (version) => {
        const value = (member: number) => valueOf(slot, key(member), version);
        return store.setMany(groups, new Map(MEMBERS.map((member) => [key(member), value(member)])));
      });
    } else if (what === 5) {
      const batch = MEMBERS.map((member) => ["del", groups, key(member)] as [string, ...unknown[]]);
      await change([slot], ABSENT, () => store.batch(batch));
    } else {
      // (It fails, and so must leave nothing to be seen.)
      const poison = ++counter * 16 + POISON;
      const batch = MEMBERS.map((member): [string, ...unknown[]] => {
        const name = key(member);
        return member % 2 ? ["del", groups, name] : ["set", groups, name, valueOf(slot, name, poison)];
      });
      if (what === 6) batch.push(["drop", steady], ["drop", table], ["clear_set", `set${writer}.0`]);
      try {
        await store.batch([...batch, ["incr", groups, "text", "no number"]]);
      } catch (error) {
        const code = error instanceof MemStoreError ? error.code : "";
        if (!["FAILED", "BAD_ARGUMENT", "BAD_REQUEST", "OUT_OF_MEMORY"].includes(code)) end(error);
      }
    }
  };
  const set = async () => {
    const i = pick(SETS), slot = base + SINGLES + STEADY + GROUPS + i, name = `set${writer}.${i}`;
    const what = below(6);
    if (what < 3) await change([slot], PRESENT, () => store.pushMany(name, MEMBERS));
    else if (what === 3) await change([slot], ABSENT, () => store.clearSet(name));
    else if (what === 4) await change([slot], ABSENT, () => store.dropSet(name));
    else await change([slot], ABSENT, () => store.batch(MEMBERS.map((member) => ["pull", name, member])));
  };

  for (let i = 0; i < STEADY; i++) await steadily(i);
  ledger.store(READY + writer, 1);
  for (let i = 0;; i++) {
    const pause = ledger.load(PAUSE);
    if (pause !== 0) {
      ledger.store(PAUSED + writer, pause);
      while (ledger.load(PAUSE) === pause) await sleep(1), await store.ping();
    }
    if (i % 300 === 0) await change(singles, ABSENT, () => store.drop(table));
    else if (i % 2) await Promise.all([single(), steadily(), group(), set()]);
    else {
      await burst(base + SINGLES, (version) => store.set(steady, 0, valueOf(base + SINGLES, 0, version)));
      await burst(base + SINGLES + STEADY, (version) => {
        const value = (key: string) => [key, valueOf(base + SINGLES + STEADY, key, version)] as const;
        return store.setMany(groups, new Map(MEMBERS.map((member) => value(`0.${member}`))));
      });
    }
  }
}

/** Stores and restores the state until the host ends. */
async function restore(): Promise<void> {
  const store = new MemStoreClient(endpoint, { timeout: 120_000 });
  let pauses = 0;
  const pause = async () => {
    ledger.store(PAUSE, ++pauses);
    for (let i = 0; i < WRITERS; i++) {
      // (If the host has ended, so have the writers.)
      while (ledger.load(PAUSED + i) !== pauses) await sleep(1), await store.ping();
    }
  };
  for (;;) {
    await pause();
    await store.store(file);
    ledger.saved.set(ledger.acked);
    ledger.store(PAUSE, 0);
    await sleep(20 + below(200));
    await store.store(`${file}.other`);
    await sleep(20 + below(200));
    await pause();
    ledger.store(EPOCH, ledger.load(EPOCH) + 1);
    await store.restore(file);
    for (const array of [ledger.prev, ledger.began, ledger.acked]) array.set(ledger.saved);
    ledger.store(EPOCH, ledger.load(EPOCH) + 1);
    ledger.store(PAUSE, 0);
    await sleep(50 + below(300));
  }
}

try {
  if (number === "state") await restore();
  else await write(Number(number));
} catch (error) {
  end(error);
}
