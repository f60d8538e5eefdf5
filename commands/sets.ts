/**
 * The commands on sets.
 *
 * @module
 */

import type { Heap } from "../engine/heap.ts";
import { Entry, type Span, Table } from "../engine/table.ts";
import { type CommandEntry, key, keys, optional, uint32 } from "./args.ts";
import type { Call } from "./call.ts";
import { eachKey, has, setAll, writeKey, writeKeys, writeNames, writeScan } from "./items.ts";

/** The commands on sets, by their names. */
export const setCommands = {
  push: {
    needs: "write",
    args: [key("set"), key("value")],
    help: "Adds a value to a set.",
    finds: "sets",
    run(call) {
      call.store.sets.set(call.key(0), call.key(1), call.payload, 0, 0);
      call.reply.int(1);
    },
  },
  push_many: {
    needs: "write",
    args: [key("set"), keys("values")],
    help: "Adds several values, all or none: how many are new.",
    run(call) {
      call.reply.int(setAll(call, call.store.sets, 1, "keys"));
    },
  },
  pull: {
    needs: "write",
    args: [key("set"), key("value")],
    help: "Removes a value from a set: 1, or 0 if it was not a member.",
    finds: "sets",
    run(call) {
      call.reply.int(call.store.sets.get(call.key(0))?.delete(call.key(1)) ? 1 : 0);
    },
  },
  in_set: {
    needs: "read",
    args: [key("set"), key("value")],
    help: "Whether a value is a member of a set.",
    finds: "sets",
    run(call) {
      call.reply.bool(has(call.store.sets, call));
    },
  },
  list_set: {
    needs: "read",
    args: [key("set")],
    help: "The members of a set, all at once.",
    run(call) {
      writeKeys(call.store.sets.get(call.key(0)), call);
    },
  },
  scan_set: {
    needs: "read",
    args: [key("set"), uint32("cursor"), optional(uint32("count"))],
    help: "Some members, and the cursor of the next; 0 begins and ends.",
    run(call) {
      const set = call.store.sets.get(call.key(0));
      writeScan(set, call, (size) => call.reply.arrayHead(size), writeKey);
    },
  },
  union: {
    needs: "read",
    args: [keys("sets")],
    help: "What is in any of several sets, all at once.",
    run(call) {
      using union = new Union(setsOf(call), call);
      call.reply.arrayHead(union.members.size);
      union.each(({ bytes, from, to }) => {
        call.reply.copy(bytes, from, to);
        call.checkReply();
      });
    },
  },
  inter: {
    needs: "read",
    args: [keys("sets")],
    help: "What is in all of several sets, all at once.",
    run(call) {
      const sets = [...new Set(setsOf(call))].sort((a, b) => (a?.size ?? 0) - (b?.size ?? 0));
      writeThose(sets[0], call, (member) => sets.every((set) => set?.find(member)));
    },
  },
  diff: {
    needs: "read",
    args: [keys("sets")],
    help: "What is in the first set and in none of the others.",
    run(call) {
      const [first, ...others] = setsOf(call);
      const size = others.reduce((sum, set) => sum + (set?.size ?? 0), 0);
      // Whatever is less to do: to look into each of the others for each member, or to make one set of them.
      if ((first?.size ?? 0) * others.length <= 2 * size) {
        return writeThose(first, call, (member) => others.every((set) => !set?.find(member)));
      }
      using union = new Union(others, call);
      writeThose(first, call, (member) => union.members.find(member) === 0);
    },
  },
  set_size: {
    needs: "read",
    args: [key("set")],
    help: "How many members a set has.",
    run(call) {
      call.reply.int(call.store.sets.get(call.key(0))?.size ?? 0);
    },
  },
  clear_set: {
    needs: "write",
    args: [key("set")],
    help: "Empties a set.",
    run(call) {
      call.store.sets.clear(call.key(0));
      call.reply.int(1);
    },
  },
  drop_set: {
    needs: "write",
    args: [key("set")],
    help: "Drops a set: 1, or 0 if there was none.",
    run(call) {
      call.reply.int(call.store.sets.drop(call.key(0)) ? 1 : 0);
    },
  },
  sets: {
    needs: "read",
    args: [],
    help: "The names of the sets.",
    run(call) {
      writeNames(call.store.sets, call);
    },
  },
} satisfies Record<string, CommandEntry>;

/** The sets that argument 0 names. */
function setsOf(call: Call): (Table | undefined)[] {
  const found: (Table | undefined)[] = [];
  eachKey(call, 0, (name) => void found.push(call.store.sets.get(name)));
  return found;
}

/** Writes those members of a set that are wanted. */
function writeThose(set: Table | undefined, call: Call, wanted: (member: Span) => boolean): void {
  const found: number[] = [];
  eachMember(set, call.store.entry, (member, address) => {
    if (wanted(member)) found.push(address);
  });
  call.reply.arrayHead(found.length);
  for (const address of found) {
    writeKey(address, call);
    call.checkReply();
  }
}

function eachMember(
  set: Table | undefined,
  entry: Entry,
  visit: (member: Span, address: number) => void,
): void {
  const member: Span = { bytes: NO_BYTES, from: 0, to: 0 };
  set?.forEach((address) => {
    entry.look(address);
    member.bytes = entry.bytes;
    member.from = entry.keyFrom;
    member.to = entry.keyTo;
    visit(member, address);
  });
}

/** The members of several sets, as a set of its own in memory of its own, for as long as a command runs. */
class Union implements Disposable {
  readonly #heap: Heap;
  readonly members: Table;

  constructor(sets: Iterable<Table | undefined>, { store }: Call) {
    this.#heap = store.heap.sibling();
    this.members = Table.alone(this.#heap);
    try {
      // (A set that is named twice is gone through once.)
      for (const set of new Set(sets)) {
        eachMember(set, store.entry, (member) => this.members.set(member, NO_BYTES, 0, 0));
      }
    } catch (error) {
      this.#heap.close();
      throw error;
    }
  }

  each(visit: (member: Span) => void): void {
    eachMember(this.members, new Entry(this.#heap), visit);
  }

  [Symbol.dispose](): void {
    this.#heap.close();
  }
}

const NO_BYTES = new Uint8Array(0);
