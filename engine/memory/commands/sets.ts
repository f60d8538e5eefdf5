/**
 * What the commands on sets do.
 *
 * @module
 */

import { ownMemory } from "../extents.ts";
import type { Heap } from "../heap.ts";
import { Entry } from "../../../blocks/entry.ts";
import type { Span } from "../../../msgpack/key.ts";
import { TableRegistry } from "../registry.ts";
import type { Table } from "../table.ts";
import type { TableView } from "../view.ts";
import type { Call, Handler, Steps } from "./call.ts";
import {
  eachKey,
  has,
  IN_PAGES,
  read,
  type Reading,
  setAll,
  writeAll,
  writeFound,
  writeNames,
  writePage,
} from "./items.ts";

/** The handlers of commands on sets, by the commands' names. */
export const setHandlers = {
  push(call) {
    call.store.sets.set(call.key(0), call.key(1), call.payload, 0, 0);
    call.reply.int(1);
  },
  push_many(call) {
    call.reply.int(setAll(call, call.store.sets, 1, "keys"));
  },
  pull(call) {
    call.reply.int(call.store.sets.get(call.key(0))?.delete(call.key(1)) ? 1 : 0);
  },
  in_set(call) {
    call.reply.bool(has(call.store.sets, call));
  },
  list_set(call) {
    return writeAll(call, call.store.sets, "keys");
  },
  scan_set(call) {
    writePage(call, call.store.sets, "keys");
  },
  union(call) {
    return read(call, () => setsOf(call), function* (reading) {
      using union = new Union(call, true);
      yield* union.add(reading, new Set(reading.tables));
      yield* union.write();
    });
  },
  inter(call) {
    return read(call, () => smallestFirst(setsOf(call)), function* (reading) {
      const [smallest, ...others] = reading.tables;
      yield* writeThose(
        call,
        reading,
        smallest,
        (member) => others.every((set) => set?.find(member)),
        others.length,
      );
    });
  },
  diff(call) {
    return read(call, () => setsOf(call), function* (reading) {
      const [first, ...rest] = reading.tables;
      const others = [...new Set(rest)];
      const size = others.reduce((sum, set) => sum + (set?.size ?? 0), 0);
      // Whatever is less to do: to look into each of the others for each member, or to make one set of them.
      if ((first?.size ?? 0) * others.length <= 2 * size) {
        return yield* writeThose(
          call,
          reading,
          first,
          (member) => others.every((set) => !set?.find(member)),
          others.length,
        );
      }
      using union = new Union(call, false);
      yield* union.add(reading, others);
      yield* writeThose(call, reading, first, (member) => union.members.find(member) === 0, 1);
    });
  },
  set_size(call) {
    call.reply.int(call.store.sets.get(call.key(0))?.size ?? 0);
  },
  clear_set(call) {
    call.store.sets.clear(call.key(0));
    call.reply.int(1);
  },
  drop_set(call) {
    call.reply.int(call.store.sets.drop(call.key(0)) ? 1 : 0);
  },
  sets(call) {
    return writeNames(call, call.store.sets);
  },
} satisfies Record<string, Handler>;

/** The sets that argument 0 names. */
function setsOf(call: Call): (Table | undefined)[] {
  return Array.from(eachKey(call, 0), (name) => call.store.sets.get(name));
}

function smallestFirst(sets: (Table | undefined)[]): (Table | undefined)[] {
  return [...new Set(sets)].sort((a, b) => (a?.size ?? 0) - (b?.size ?? 0));
}

/**
 * Replies those members of a set that are wanted.
 *
 * @param cost How many entries are looked up to know whether one is.
 */
function* writeThose(
  call: Call,
  reading: Reading,
  set: TableView | undefined,
  wanted: (member: Span) => boolean,
  cost: number,
): Steps {
  const found: number[] = [];
  const steps = reading.each(set, (address, member) => {
    if (wanted(member)) found.push(address);
  });
  for (const visited of steps) yield visited * (1 + cost);
  yield* writeFound(call, reading, found);
}

/** The members of several sets, as a set of its own in memory of its own, for as long as a command runs. */
class Union implements Disposable {
  readonly #call: Call;
  readonly #heap: Heap;
  readonly #replied: boolean;
  readonly members: Table;

  /** @param replied Whether the members are the reply. */
  constructor(call: Call, replied: boolean) {
    this.#call = call;
    this.#replied = replied;
    this.#heap = call.store.heap.sibling(ownMemory);
    this.members = TableRegistry.of(this.#heap).make(0);
  }

  *add(reading: Reading, sets: Iterable<TableView | undefined>): Steps {
    const call = this.#call;
    for (const set of sets) {
      for (const visited of reading.each(set, (_, member) => this.members.set(member, NO_BYTES, 0, 0))) {
        // (What will not fit is not gathered.)
        if (this.#replied) call.checkRoom(this.members.bytes, IN_PAGES);
        yield visited;
      }
    }
  }

  /** Replies the members. */
  *write(): Steps {
    const { reply } = this.#call, entry = new Entry(this.#heap);
    reply.arrayHead(this.members.size);
    let cursor = 0;
    do {
      const from = reply.length;
      cursor = this.members.scan(cursor, (address) => {
        const { bytes, keyFrom, keyTo } = entry.read(address);
        this.#call.checkRoom(keyTo - keyFrom, IN_PAGES);
        reply.copy(bytes, keyFrom, keyTo);
      });
      yield (reply.length - from) >>> 3;
    } while (cursor !== 0);
  }

  [Symbol.dispose](): void {
    this.#heap.close();
  }
}

const NO_BYTES = new Uint8Array(0);
