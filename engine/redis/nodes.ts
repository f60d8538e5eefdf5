/**
 * The nodes of Redis, and the commands on their way to them.
 *
 * One connection leads to each master. What is sent in one turn of the event loop leaves in one write, whichever clients it is
 * for, and the replies come in the same order. So the commands on one partition are done in the order in which they are sent.
 *
 * ```text
 *           send ─► connection of the partition's node ─► reply
 *                     │ a node is gone, a slot is moving: what was not done is held
 *                     ▼
 *  send later ─►  held, in order ─► one after another, until none is left
 * ```
 *
 * While commands of a partition are **held**, later ones queue behind them, so that no retry overtakes and none is overtaken.
 * What was sent behind a command that is held, and was done nevertheless, is asked again if it only reads. What writes to a
 * table or set names the same keys as all else that does, so that a node refuses one like the other while their slot moves.
 * What only reads is sent again also if it may have been done; what writes is not: `UNCERTAIN`.
 *
 * node-redis has a client for clusters, too. It follows `MOVED`, but learns of a failover only if a node tells it, waits for
 * nodes that are down while it looks for others, and lets commands overtake those that it sends again.
 *
 * @module
 */

import { MemStoreError } from "../../transport/message.ts";
import {
  isRefusedUser,
  lacksScript,
  outcomeOf,
  redirectOf,
  refusalOf,
  textOf,
  unavailable,
  uncertain,
} from "./faults.ts";
import { type Argument, Node, type NodeRedis, nodeRedis, type Reply } from "./node.ts";
import type { RedisAddress } from "./url.ts";

/** How long a command is held before it fails, in milliseconds: less than clients wait by default. */
const HOLD_MS = 4000;
/** The longest wait before held commands are tried again, in milliseconds. */
const RETRY_MS = 100;
/** How often each node is asked for a sign of life, in milliseconds. */
const CHECK_MS = 1000;

/** What a command does, for when it may have been done already: what only reads is sent again. */
export type Effect = "repeatable" | "once";

/** A command that is held. */
interface Held {
  readonly args: readonly Argument[];
  readonly effect: Effect;
  readonly since: number;
  resolve(reply: Reply): void;
  reject(error: MemStoreError): void;
}

/** The held commands of a slot: those that were sent before, and those that came later. */
interface Line {
  /** The number of the command that was not done. */
  readonly first: number;
  readonly sent: Held[];
  readonly later: Held[];
}

/** Connections to the masters of a cluster, or to the one server. */
export class Nodes {
  readonly #redis: NodeRedis;
  readonly #access: RedisAddress;
  readonly #nodes = new Map<string, Node>();
  /** Of each slot, its node. */
  #owners: Node[] = [];
  #isCluster = false;
  /** Of each slot, how many commands are on their way. */
  readonly #inFlight = new Uint32Array(SLOTS);
  #pending = 0;
  /** How many commands were sent. */
  #sent = 0;
  readonly #held = new Map<number, Line>();
  #refreshing: Promise<void> | undefined;
  /** How often a node was asked for the slots. */
  #asked = 0;
  readonly #checks: ReturnType<typeof setInterval>;
  #closed = false;
  /** Why no command is sent any more. */
  #refusal: MemStoreError | undefined;
  readonly #replicas: number;

  private constructor(redis: NodeRedis, access: RedisAddress, replicas: number) {
    this.#redis = redis;
    this.#access = access;
    this.#replicas = replicas;
    this.#checks = setInterval(() => {
      for (const node of this.#nodes.values()) node.check();
    }, CHECK_MS);
  }

  /**
   * Connects.
   *
   * @param replicas How many replicas must have a write before it is acknowledged.
   * @throws {MemStoreError} `UNAVAILABLE` if no node can be reached; `DENIED` if the user or the password is refused; `FAILED`
   *   if several servers were named that are no cluster: other fronts could choose another one.
   */
  static async connect(access: RedisAddress, replicas: number): Promise<Nodes> {
    const nodes = new Nodes(await nodeRedis(), access, replicas);
    try {
      await nodes.#open();
      return nodes;
    } catch (error) {
      nodes.close();
      throw error;
    }
  }

  /** Whether it is a cluster. */
  get isCluster(): boolean {
    return this.#isCluster;
  }

  /** The masters, and the slots of each; of a single server all. */
  get masters(): { node: Node; slots: number }[] {
    const counts = new Map<Node, number>();
    for (const node of this.#owners) if (node) counts.set(node, (counts.get(node) ?? 0) + 1);
    return Array.from(counts, ([node, slots]) => ({ node, slots }));
  }

  /** The node of a slot. */
  ownerOf(slot: number): Node {
    return this.#owners[slot];
  }

  /** How many commands have no reply yet. */
  get pending(): number {
    return this.#pending;
  }

  /** The time of the node of a slot, in milliseconds since 1970: a little ahead, rather than behind. */
  now(slot: number): number {
    return Date.now() + this.#owners[slot].ahead;
  }

  /**
   * Sends a command about keys of one slot.
   *
   * @throws {MemStoreError} that says what became of it.
   */
  send(slot: number, args: readonly Argument[], effect: Effect): Promise<Reply> {
    if (this.#refusal) return Promise.reject(this.#refusal);
    if (this.#held.size > 0 && this.#held.has(slot)) return this.#hold(slot, args, effect, "later");
    const number = this.#sent++;
    this.#inFlight[slot]++;
    this.#pending++;
    return this.#sendTo(this.#owners[slot], args, effect).then((reply) => {
      this.#inFlight[slot]--;
      this.#pending--;
      // (Of a slot that moves, a node does a command whose keys it still has, after it refused one that has other keys.)
      const first = effect === "repeatable" && this.#held.size > 0
        ? this.#held.get(slot)?.first ?? number
        : number;
      return first < number ? this.#hold(slot, args, effect, "sent") : reply;
    }, (error) => {
      this.#inFlight[slot]--;
      this.#pending--;
      if (!mayTryAgain(error, effect)) throw lastly(error);
      return this.#hold(slot, args, effect, "sent", number);
    });
  }

  /** Refuses all commands from now on. */
  refuse(why: MemStoreError): void {
    this.#refusal = why;
  }

  /** Closes the connections: what has no reply yet fails. */
  close(): void {
    this.#closed = true;
    clearInterval(this.#checks);
    for (const node of this.#nodes.values()) node.close();
  }

  #hold(
    slot: number,
    args: readonly Argument[],
    effect: Effect,
    when: "sent" | "later",
    number = Infinity,
  ): Promise<Reply> {
    let line = this.#held.get(slot);
    if (!line) {
      this.#held.set(slot, line = { first: number, sent: [], later: [] });
      this.#drain(slot, line);
    }
    const { promise, resolve, reject } = Promise.withResolvers<Reply>();
    line[when].push({ args, effect, since: performance.now(), resolve, reject });
    return promise;
  }

  /** Sends what is held, one after another. */
  async #drain(slot: number, line: Line): Promise<void> {
    // (What was sent and has no reply yet may have to be sent again, too: it comes first.)
    do await sleep(1); while (this.#inFlight[slot] > 0);
    for (let next; (next = line.sent.shift() ?? line.later.shift());) {
      await this.#sendHeld(slot, next).then(next.resolve, next.reject);
    }
    this.#held.delete(slot);
  }

  async #sendHeld(slot: number, { args, effect, since }: Held): Promise<Reply> {
    for (let wait = 1;; wait = Math.min(wait * 2, RETRY_MS)) {
      try {
        return await this.#follow(slot, args, effect);
      } catch (error) {
        if (!mayTryAgain(error, effect)) throw lastly(error);
        if (this.#closed || performance.now() - since > HOLD_MS) {
          throw unavailable(HOLD_MS, this.#owners[slot].fault ?? error);
        }
      }
      await sleep(wait);
      await this.#refresh();
    }
  }

  #sendTo(node: Node, args: readonly Argument[], effect: Effect): Promise<Reply> {
    const reply = node.send(args);
    return this.#replicas > 0 && effect === "once" ? this.#replicated(node, reply) : reply;
  }

  /** The reply to a write, when enough replicas have it. */
  async #replicated(node: Node, sent: Promise<Reply>): Promise<Reply> {
    const replicated = node.replicated(this.#replicas);
    // (What was not done need not be copied.)
    replicated.catch(() => {});
    const reply = await sent;
    await replicated;
    return reply;
  }

  /** Sends a command to where its slot is now, even if that is known to another node only. */
  async #follow(slot: number, args: readonly Argument[], effect: Effect): Promise<Reply> {
    let node = this.#owners[slot];
    try {
      return await this.#sendTo(node, args, effect);
    } catch (error) {
      if (lacksScript(error)) {
        await node.loadScripts();
        return await this.#sendTo(node, args, effect);
      }
      const redirect = redirectOf(error);
      if (!redirect) throw error;
      node = this.#nodeAt(redirect.address, node);
      if (!redirect.once) this.#owners[slot] = node;
      for (let wait = 1; !node.isReady && wait < RETRY_MS; wait *= 2) await sleep(wait);
      if (!redirect.once) return await this.#sendTo(node, args, effect);
      // (Both leave together: nothing comes in between.)
      const asking = node.send(["ASKING"]), reply = this.#sendTo(node, args, effect);
      await asking.catch(() => {});
      return await reply;
    }
  }

  /** The node at an address. One that is asked for by another node, and has no host, is on the same host. */
  #nodeAt(address: string, from: Node): Node {
    const colon = address.lastIndexOf(":");
    const host = address.slice(0, colon).replace(/^\[(.*)\]$/, "$1") || from.host;
    return this.#node(host, Number(address.slice(colon + 1)));
  }

  #node(host: string, port: number): Node {
    const address = `${host}:${port}`;
    let node = this.#nodes.get(address);
    if (!node) this.#nodes.set(address, node = new Node(this.#redis, host, port, this.#access));
    return node;
  }

  /** Finds out what there is. */
  async #open(): Promise<void> {
    const roots = this.#access.nodes.map(({ host, port }) => this.#node(host, port));
    for (const end = performance.now() + HOLD_MS;;) {
      await sleep(10);
      const refused = roots.find(({ fault }) => isRefusedUser(fault));
      if (refused) {
        const why = `the user or the password is refused: ${textOf(refused.fault)}`;
        throw new MemStoreError("DENIED", `Cannot connect to Redis: ${why}`);
      }
      if (roots.some((node) => node.isReady)) await this.#refresh();
      if (this.#owners.length > 0 && this.#owners.every((node) => node.isReady)) {
        if (this.#isCluster || roots.length === 1) return;
        const why = "several servers were named, and they are no cluster: name one of them";
        throw new MemStoreError("FAILED", `Cannot use Redis: ${why}`);
      }
      if (performance.now() < end) continue;
      const down = [...roots, ...this.#owners].find(({ isReady }) => !isReady);
      const what = this.#owners.length === 0
        ? `no node could be reached${this.#access.tls ? " over TLS" : ""}`
        : "not every part of the cluster could";
      const why = `${what} within ${HOLD_MS / 1000} s: ${down?.address}: ${textOf(down?.fault)}`;
      throw new MemStoreError("UNAVAILABLE", `Cannot connect to Redis: ${why}`);
    }
  }

  /** Learns which node has which slots. */
  #refresh(): Promise<void> {
    return this.#refreshing ??= this.#learn().finally(() => this.#refreshing = undefined);
  }

  async #learn(): Promise<void> {
    const ready = [...this.#nodes.values()].filter(({ isReady }) => isReady);
    // (Where none is left, those that were named at the start may be there again, and know the others.)
    if (ready.length === 0) { for (const { host, port } of this.#access.nodes) this.#node(host, port); }
    // (Another one each time: one that is cut off from the others does not know what has changed.)
    const first = this.#asked++ % ready.length;
    for (const node of [...ready.slice(first), ...ready.slice(0, first)]) {
      try {
        this.#use(await within(CHECK_MS, node.send(["CLUSTER", "SLOTS"])), node);
        return;
      } catch (error) {
        if (!/cluster support disabled/.test(textOf(error))) continue;
        this.#owners = new Array(SLOTS).fill(node);
        for (const other of this.#nodes.values()) if (other !== node) this.#drop(other);
        return;
      }
    }
  }

  /** Uses what a node tells of the slots. */
  #use(ranges: Reply, from: Node): void {
    this.#isCluster = true;
    const owners = this.#owners.slice();
    for (const [first, last, [host, port]] of ranges as [number, number, [Uint8Array | null, number]][]) {
      const node = this.#node(host?.toString() || from.host, port);
      for (let slot = first; slot <= last; slot++) owners[slot] = node;
    }
    // (A cluster that is not complete yet is asked again.)
    for (let slot = 0; slot < SLOTS; slot++) if (!owners[slot]) return;
    this.#owners = owners;
    const used = new Set(owners);
    for (const node of this.#nodes.values()) if (!used.has(node)) this.#drop(node);
  }

  #drop(node: Node): void {
    this.#nodes.delete(node.address);
    node.close();
  }
}

const SLOTS = 16384;

/** Whether a command that failed may be sent again. */
function mayTryAgain(error: unknown, effect: Effect): boolean {
  const outcome = outcomeOf(error);
  return outcome === "later" || outcome === "elsewhere" || outcome === "unknown" && effect === "repeatable";
}

/** The error of a command that is not sent again. */
function lastly(error: unknown): MemStoreError {
  return outcomeOf(error) === "unknown" ? uncertain(error) : refusalOf(error);
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

async function within<Result>(milliseconds: number, result: Promise<Result>): Promise<Result> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`no answer within ${milliseconds} ms`)), milliseconds);
  try {
    return await Promise.race([result, promise]);
  } finally {
    clearTimeout(timer);
  }
}
