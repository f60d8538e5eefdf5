/**
 * A host's {@linkcode Port} through shared memory: a ZeroMQ port, and the {@link ./lane.ts | lanes} of its clients beside it.
 *
 * A client is one {@linkcode Sender}, whichever way its messages come: what the ZeroMQ port knows of it (limits, replies
 * that are pending, pauses, whether it is gone) holds for its lane. A lane is closed with the connection.
 *
 * @module
 */

import { headerFault, isBatch, isHeader, takesParts } from "../message.ts";
import type { Limits } from "../limits.ts";
import { Waiter } from "./waiter.ts";
import { FIGURES, type IncomingMessage, type Port, type Sender } from "../transport.ts";
import { type Connection, ReceivedMessage } from "../zeromq/connection.ts";
import type { ZeroMqPort } from "../zeromq/port.ts";
import { AT_CONNECTION, Lane, LANE_BYTES } from "./lane.ts";
import type { MemoryOffer } from "./offer.ts";

/** After how many messages of lanes the ZeroMQ port has its turn. */
const LANE_SHARE = 16;
/** How long a client may take to open the lane that it was offered, in milliseconds. */
const OPEN_MS = 5_000;

const EMPTY = new Uint8Array(0);

/** The lane of one client. */
class ClientLane {
  readonly lane: Lane;
  readonly client: Connection;
  readonly offeredAt = performance.now();
  /** The rest of a message of which a part was answered. */
  rest: ReceivedMessage | undefined;
  /** Messages that came outside, until those before them were taken from the lane; and their bytes. */
  readonly outside: ReceivedMessage[] = [];
  outsideBytes = 0;

  constructor(lane: Lane, client: Connection) {
    this.lane = lane;
    this.client = client;
  }

  /** Whether there is a message whose turn it is, or the client broke the format. */
  get hasNext(): boolean {
    const { lane, rest, outside } = this;
    return lane.ready || rest !== undefined || outside.length > 0;
  }
}

/** What the ports of a host count together. */
interface LaneCount {
  /** How many ports may have lanes. */
  ports: number;
  /** How many lanes they have made and not closed. */
  made: number;
}

/** A port whose clients may have lanes. */
export class LanePort implements Port {
  readonly #zeromq: ZeroMqPort;
  readonly #limits: Limits;
  readonly #count: LaneCount;
  readonly #lanes = new Map<Sender, ClientLane>();
  /** The same, in the order in which they were made: they have their turns in it. */
  #turns: ClientLane[] = [];
  /** The lanes of those. */
  #all: Lane[] = [];
  readonly #waiter = new Waiter();
  readonly #isReady = () => this.#turns.some((each) => this.#mayRead(each));
  /** What clients have told that are gone. */
  readonly #told: number[] = new Array(FIGURES).fill(0);
  /** Whose turn is next, by its index. */
  #turn = 0;
  /** Whether {@linkcode Port.wait} is under way. */
  #waiting = false;
  /** Clients that sleep, and have replies. */
  readonly #toWake: ClientLane[] = [];
  /** How many messages lanes may give until the ZeroMQ port has its turn. */
  #share = 0;
  /** Closes lanes that nobody opened. */
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(zeromq: ZeroMqPort, limits: Limits, count: LaneCount) {
    this.#zeromq = zeromq;
    this.#limits = limits;
    this.#count = count;
    count.ports++;
  }

  get encrypted(): boolean {
    return this.#zeromq.encrypted;
  }

  get clients(): number {
    return this.#zeromq.clients;
  }

  get lanes(): number {
    return this.#turns.filter(({ lane }) => lane.attached).length;
  }

  has(from: Sender): boolean {
    return this.#zeromq.has(from);
  }

  get figures(): readonly number[] {
    const sums = [...this.#told];
    for (const { lane } of this.#turns) addFigures(sums, lane);
    return sums;
  }

  openLane(from: Sender): MemoryOffer | undefined {
    const client = this.#zeromq.connectionOf(from);
    if (!client || client.gone || client.disconnected || this.#lanes.has(from)) return undefined;
    // (Some may be of clients that have gone.)
    if (!this.#mayMake) this.look();
    if (!this.#mayMake) return undefined;
    let lane;
    try {
      lane = Lane.create();
    } catch {
      // (The system has no more memory or descriptors: messages go on as they are.)
      return undefined;
    }
    // (This port may be waiting already, while the loop of another one took the message.)
    lane.sleep(AT_CONNECTION);
    const added = new ClientLane(lane, client);
    client.hasLane = true;
    this.#count.made++;
    this.#lanes.set(from, added);
    this.#turns.push(added);
    this.#all = this.#turns.map(({ lane }) => lane);
    this.#watch();
    return lane.offer;
  }

  /** Whether the host may make another lane. */
  get #mayMake(): boolean {
    const { lanes, laneBytes } = this.#limits;
    return this.#count.made < Math.min(lanes, Math.floor(laneBytes / LANE_BYTES));
  }

  next(): IncomingMessage | undefined {
    if (this.#turns.length === 0) return this.#zeromq.next();
    const message = this.#next();
    if (message || !this.#waiting) return message;
    // (The loop of another port looks, and may have taken the doorbell for which the loop of this one waits.)
    for (const lane of this.#all) lane.sleep(AT_CONNECTION);
    return this.#nextOfLanes();
  }

  #next(): IncomingMessage | undefined {
    // (To look at the ZeroMQ port takes longer than to answer a message. Before the loop waits, it is looked at.)
    if (this.#share-- > 0) {
      const message = this.#nextOfLanes();
      if (message || !this.#waiting) return message;
    }
    this.#share = LANE_SHARE;
    return this.#nextOfConnections() ?? this.#nextOfLanes();
  }

  reply(to: ReceivedMessage, payload: Uint8Array): void {
    const { from } = to;
    const own = from.hasLane ? this.#lanes.get(from) : undefined;
    if (!own?.lane.attached || !to.direct) return this.#zeromq.reply(to, payload);
    if (from.disconnected) return;
    if (!own.lane.write(to.envelope[2], payload)) {
      this.#zeromq.reply(to, payload);
      own.lane.endNap();
    } else if (own.lane.peerSleeps) this.#wakeLater(own);
  }

  /**
   * Wakes a client when the messages that are there have been answered: it would take the processor from this process
   * after each of them.
   */
  #wakeLater(own: ClientLane): void {
    if (this.#toWake.length === 0) queueMicrotask(this.#wakeClients);
    this.#toWake.push(own);
  }

  readonly #wakeClients = (): void => {
    for (const { lane, client } of this.#toWake) {
      if (!lane.closed && lane.wakePeer()) this.#zeromq.ring(client);
    }
    this.#toWake.length = 0;
  };

  putBack(message: ReceivedMessage, rest: Uint8Array): void {
    const own = this.#lanes.get(message.from);
    if (!own?.lane.attached) return this.#zeromq.putBack(message, rest);
    own.rest = new ReceivedMessage(own.client, message.publicKey, { ...message, payload: rest });
  }

  pause(from: Connection): void {
    this.#zeromq.pause(from);
  }

  resume(from: Connection): void {
    this.#zeromq.resume(from);
  }

  begin(from: Connection): void {
    this.#zeromq.begin(from);
  }

  end(from: Connection): void {
    this.#zeromq.end(from);
  }

  fault(from: Connection): void {
    this.#zeromq.fault(from);
  }

  forgiveFault(from: Connection): void {
    this.#zeromq.forgiveFault(from);
  }

  disconnect(publicKey: string): void {
    this.#zeromq.disconnect(publicKey);
  }

  look(): void {
    this.#zeromq.look();
    for (const each of this.#turns) {
      const { lane, client } = each;
      if (lane.fd >= 0 && lane.attached) lane.closeDescriptor();
      // (Its memory may be written by a process that has no connection any more.)
      if (client.gone) lane.endInput();
      const late = lane.fd >= 0 && performance.now() - each.offeredAt > OPEN_MS;
      // (What a client sent before it went away counts.)
      const gone = client.gone && client.paused === 0 && !each.hasNext;
      if (client.disconnected || gone || late && lane.withdraw()) this.#close(each);
    }
  }

  spin(): boolean {
    this.#wakeClients();
    if (this.#turns.length === 0) return this.#zeromq.spin();
    // (A nap would hold up the lanes of other ports.)
    if (this.#waiter.spin(this.#all, this.#isReady, this.#count.ports === 1)) return true;
    this.look();
    if (!this.#zeromq.changed) return false;
    this.#share = 0;
    return true;
  }

  async wait(): Promise<void> {
    this.#wakeClients();
    this.look();
    this.#waiting = true;
    for (const lane of this.#all) lane.sleep(AT_CONNECTION);
    const start = performance.now();
    if (!this.#isReady()) await this.#zeromq.wait();
    this.#waiting = false;
    for (const lane of this.#all) lane.awake();
    if (this.#isReady()) this.#waiter.slept(start);
    this.#share = 0;
  }

  wake(): void {
    this.#zeromq.wake();
  }

  close(): void {
    clearTimeout(this.#timer);
    for (const each of this.#turns) this.#close(each);
    this.#zeromq.close();
  }

  /** Whether a client's next message may be taken from its lane. */
  #mayRead(own: ClientLane): boolean {
    return own.hasNext && this.#zeromq.mayRead(own.client);
  }

  #nextOfLanes(): ReceivedMessage | undefined {
    const turns = this.#turns;
    for (let i = 0; i < turns.length; i++) {
      if (this.#turn >= turns.length) this.#turn = 0;
      const message = this.#take(turns[this.#turn++]);
      if (message) return message;
    }
  }

  /** The next message that came over ZeroMQ, or one that its client sent before it. */
  #nextOfConnections(): ReceivedMessage | undefined {
    const message = this.#zeromq.next();
    const own = message?.from.hasLane ? this.#lanes.get(message.from) : undefined;
    if (!message || !own?.lane.attached) return message;
    own.outside.push(message);
    own.outsideBytes += message.payload.length;
    const { requests, message: maxBytes } = this.#limits;
    if (own.outside.length > requests || own.outsideBytes > maxBytes) {
      this.#zeromq.reject(own.client, "it has too many requests under way");
    }
    return this.#take(own);
  }

  /** A client's next message. */
  #take(own: ClientLane): ReceivedMessage | undefined {
    const { lane, client, outside, rest } = own;
    if (!lane.readable && !rest && outside.length === 0 || !this.#zeromq.mayRead(client)) return undefined;
    if (rest) {
      own.rest = undefined;
      return rest;
    }
    if (lane.next()) {
      this.#zeromq.noteMessage(client);
      const bytes = lane.copy(), headerBytes = lane.payload - lane.header;
      lane.take();
      return received(client, bytes.subarray(0, headerBytes), bytes.subarray(headerBytes), this.#limits);
    }
    if (lane.broken) {
      this.#zeromq.reject(client, "it wrote what is no message into its lane");
      return undefined;
    }
    const next = outside.shift();
    if (!next) return undefined;
    own.outsideBytes -= next.payload.length;
    lane.tookOutside();
    return next;
  }

  #close(own: ClientLane): void {
    own.client.hasLane = false;
    this.#count.made--;
    this.#lanes.delete(own.client);
    this.#turns = this.#turns.filter((each) => each !== own);
    this.#all = this.#turns.map(({ lane }) => lane);
    addFigures(this.#told, own.lane);
    own.lane[Symbol.dispose]();
  }

  /** Looks again when the time to open the oldest offered lane is over: the host may be idle then. */
  #watch(): void {
    const oldest = this.#turns.find(({ lane }) => lane.fd >= 0);
    if (this.#timer !== undefined || !oldest) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.look();
      this.#watch();
    }, oldest.offeredAt + OPEN_MS + 1 - performance.now());
    Deno.unrefTimer(this.#timer);
  }
}

/** Adds what a client has told. (It may have written anything.) */
function addFigures(sums: number[], { figures }: Lane): void {
  figures.forEach((figure, i) => {
    if (figure >= 0 && figure <= Number.MAX_SAFE_INTEGER) sums[i] += Math.floor(figure);
  });
}

/** A message of a lane, as if it had come by its connection. */
function received(
  from: Connection,
  header: Uint8Array,
  payload: Uint8Array,
  { message }: Limits,
): ReceivedMessage {
  const known = isHeader(header);
  const fault = !known
    ? "a header is needed"
    : payload.length > message
    ? `a message has ${message} bytes at most: received ${payload.length}`
    : headerFault(header);
  return new ReceivedMessage(from, undefined, {
    envelope: [from.id ?? EMPTY, EMPTY, header],
    legacy: false,
    batch: known && isBatch(header),
    parts: known && takesParts(header),
    payload,
    fault,
  });
}
