/**
 * The model: what the commands do, implemented a second time with JavaScript's Map and Set.
 *
 * @module
 */

import { decoded, encoded } from "../msgpack/codec.ts";

/** A value or a key as text: equal for what the host takes for equal. */
const text = (value: unknown) => String.fromCharCode(...encoded(value));
const valueOf = (text: string) => decoded(Uint8Array.from(text, (each) => each.charCodeAt(0)));

/** The error for a command that is refused. */
export class Refused extends Error {}

/** Tables and sets, by their names as text; keys, members and values as text too. */
export class Model {
  readonly tables = new Map<string, Map<string, string>>();
  readonly sets = new Map<string, Set<string>>();

  /** The same contents. */
  copy(): Model {
    const copy = new Model();
    for (const [name, table] of this.tables) copy.tables.set(name, new Map(table));
    for (const [name, set] of this.sets) copy.sets.set(name, new Set(set));
    return copy;
  }

  /** Takes the contents of another. */
  adopt({ tables, sets }: Model): void {
    this.tables.clear();
    this.sets.clear();
    for (const [name, table] of tables) this.tables.set(name, table);
    for (const [name, set] of sets) this.sets.set(name, set);
  }

  /** Does a command; what it answers. Lists are in no order. */
  run([name, ...args]: readonly unknown[]): unknown {
    const [first = null, second, third, fourth] = args;
    const table = this.tables.get(text(first));
    const set = this.sets.get(text(first));
    switch (name) {
      case "set":
        this.#table(first).set(text(second), text(third));
        return 1;
      case "set_new":
        if (table?.has(text(second))) return 0;
        this.#table(first).set(text(second), text(third));
        return 1;
      case "cas":
        if ((table?.get(text(second)) ?? text(null)) !== text(third)) return 0;
        this.#table(first).set(text(second), text(fourth));
        return 1;
      case "get":
        return this.#value(table?.get(text(second)) ?? text(third ?? null));
      case "pop": {
        const value = this.#value(table?.get(text(second)));
        table?.delete(text(second));
        return value;
      }
      case "del":
        return table?.delete(text(second)) ? 1 : 0;
      case "exists":
        return table?.has(text(second)) ?? false;
      case "incr": {
        const value = this.#value(table?.get(text(second))) ?? (table?.has(text(second)) ? null : 0);
        if (typeof value !== "number" || !Number.isInteger(value)) throw new Refused();
        this.#table(first).set(text(second), text(value + Number(third)));
        return value + Number(third);
      }
      case "get_many":
        return (second as unknown[]).map((key) => this.#value(table?.get(text(key)) ?? text(third ?? null)));
      case "set_many": {
        const entries = second as Map<unknown, unknown>;
        if (entries.size === 0) return 0;
        const before = table?.size ?? 0;
        for (const [key, value] of entries) this.#table(first).set(text(key), text(value));
        return this.#table(first).size - before;
      }
      case "keys":
        return [...table?.keys() ?? []].map(valueOf);
      case "size":
        return table?.size ?? 0;
      case "all":
        return new Map([...table ?? []].map(([key, value]) => [valueOf(key), valueOf(value)]));
      case "drop":
        return this.tables.delete(text(first)) ? 1 : 0;
      case "tables":
        return [...this.tables.keys()].map(valueOf);
      case "push":
        this.#set(first).add(text(second));
        return 1;
      case "push_many": {
        const members = second as unknown[];
        if (members.length === 0) return 0;
        const before = set?.size ?? 0;
        for (const member of members) this.#set(first).add(text(member));
        return this.#set(first).size - before;
      }
      case "pull":
        return set?.delete(text(second)) ? 1 : 0;
      case "in_set":
        return set?.has(text(second)) ?? false;
      case "list_set":
        return [...set ?? []].map(valueOf);
      case "set_size":
        return set?.size ?? 0;
      case "clear_set":
        set?.clear();
        return 1;
      case "drop_set":
        return this.sets.delete(text(first)) ? 1 : 0;
      case "sets":
        return [...this.sets.keys()].map(valueOf);
      case "union":
        return [...this.#members(first).reduce((all, each) => all.union(each), new Set())].map(valueOf);
      case "inter":
        return [...this.#combined(first, (all, each) => all.intersection(each))].map(valueOf);
      case "diff":
        return [...this.#combined(first, (all, each) => all.difference(each))].map(valueOf);
      default:
        throw new TypeError(`Cannot run ${name}: the model does not know it`);
    }
  }

  #table(name: unknown): Map<string, string> {
    const key = text(name);
    return this.tables.get(key) ?? this.tables.set(key, new Map()).get(key)!;
  }

  #set(name: unknown): Set<string> {
    const key = text(name);
    return this.sets.get(key) ?? this.sets.set(key, new Set()).get(key)!;
  }

  #value(found: string | undefined): unknown {
    return found === undefined ? null : valueOf(found);
  }

  #members(names: unknown): Set<string>[] {
    return (names as unknown[]).map((name) => this.sets.get(text(name)) ?? new Set());
  }

  #combined(names: unknown, combine: (all: Set<string>, each: Set<string>) => Set<string>): Set<string> {
    const [first = new Set<string>(), ...others] = this.#members(names);
    return others.reduce(combine, first);
  }
}
