/**
 * A client with a lane that writes into it what it likes: the one that a host must survive. As a program of its own,
 * `lane_peer.ts ENDPOINT`, it does so until it is killed.
 *
 * @module
 */

import { encoded, Reader } from "../msgpack/codec.ts";
import { LANE_BYTES, RING_BYTES } from "../transport/shared/lane.ts";
import { type Part, SharedMemory } from "../transport/shared/memory.ts";
import { loadSharedMemory } from "../transport/shared/system.ts";
import { Peer } from "./host.ts";

const HEADER_BYTES = LANE_BYTES - 2 * RING_BYTES;
const REQUESTS: Part = { at: HEADER_BYTES, bytes: RING_BYTES };
/** Where the requests are, and the replies, … */
export const RING_AT: number = HEADER_BYTES;
export const REPLIES_AT: number = HEADER_BYTES + 2 * RING_BYTES;
/** … when the header, the requests twice, and the replies are mapped. */
export const PARTS: readonly Part[] = [{ at: 0, bytes: HEADER_BYTES }, REQUESTS, REQUESTS, {
  at: HEADER_BYTES + RING_BYTES,
  bytes: RING_BYTES,
}];
/** Words of the header, as transport/shared/lane.ts draws them. */
export const WORDS = {
  state: 16,
  requestTail: 32,
  requestHead: 48,
  hostSleeps: 64,
  replyTail: 80,
  replyHead: 96,
  sleeps: 112,
} as const;
const NATIVE = new Uint8Array([0x4d, 1, 9, 9, 9, 9]);

/** What a record says of itself; what is left out is right. */
export interface RecordHead {
  length?: number;
  headerLength?: number;
  outside?: number;
}

/** A connection, and the lane that the host made for it, as memory. */
export class LanePeer implements AsyncDisposable {
  readonly #peer: Peer;
  readonly #memory: SharedMemory;
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
  #tail = 0;

  private constructor(peer: Peer, memory: SharedMemory) {
    this.#peer = peer;
    this.#memory = memory;
    this.words = new Int32Array(memory.buffer);
    this.bytes = new Uint8Array(memory.buffer);
  }

  /** Undefined if the host makes none. */
  static async connect(endpoint: string): Promise<LanePeer | undefined> {
    if (!loadSharedMemory()) return undefined;
    const peer = await Peer.connect(endpoint);
    try {
      const reader = new Reader((await peer.request([[], NATIVE, encoded(["lane"])]))[2]);
      const offer = reader.value() === 0 ? reader.value() as { pid: number; fd: number } | null : null;
      if (offer) {
        const made = new LanePeer(peer, SharedMemory.open(offer.pid, offer.fd, LANE_BYTES, PARTS));
        Atomics.store(made.words, WORDS.state, 1);
        return made;
      }
    } catch {
      // (It was disconnected, or the host has given the lane up.)
    }
    await peer[Symbol.asyncDispose]();
  }

  /** Writes a record. */
  write(header: Uint8Array, payload: Uint8Array, head: RecordHead = {}): void {
    const length = header.length + payload.length;
    const at = HEADER_BYTES + (this.#tail & (RING_BYTES - 1));
    this.words.set(
      [head.length ?? length, head.headerLength ?? header.length, head.outside ?? 0, 0],
      at >> 2,
    );
    this.bytes.set(header, at + 16);
    this.bytes.set(payload, at + 16 + header.length);
    this.#tail = (this.#tail + ((length + 31) & ~15)) | 0;
    Atomics.store(this.words, WORDS.requestTail, this.#tail);
  }

  /** Writes a command, and wakes the host. */
  ask(...command: unknown[]): void {
    this.write(NATIVE, encoded(command));
    this.ring();
  }

  /** Sends a message beside the lane. */
  send(...command: unknown[]): void {
    this.#peer.send([[], NATIVE, encoded(command)]);
  }

  /** Rings the doorbell. */
  ring(): void {
    this.#peer.send([[]]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#peer[Symbol.asyncDispose]();
    this.#memory[Symbol.dispose]();
  }
}

const below = (n: number) => Math.floor(Math.random() * n);
const word = () => below(4) === 0 ? below(2 ** 32) | 0 : below(RING_BYTES * 2) & ~15;

/** What a hostile client does with a lane, some thousands of times for each connection. */
const KINDS: ((peer: LanePeer) => void)[] = [
  // Random words in the header.
  ({ words }) => words[below(HEADER_BYTES / 16)] = word(),
  // Random indices.
  ({ words }) => {
    const { requestTail, requestHead, hostSleeps, replyTail, replyHead, sleeps } = WORDS;
    const indices = [requestTail, requestHead, replyTail, replyHead];
    Atomics.store(words, indices[below(indices.length)], word());
    Atomics.store(words, below(2) ? hostSleeps : sleeps, below(3));
  },
  // Random rings.
  (peer) => {
    for (let i = 0; i < 1000; i++) peer.words[(HEADER_BYTES >> 2) + below(RING_BYTES >> 1)] = word();
    Atomics.store(peer.words, WORDS.requestTail, word());
    peer.ring();
  },
  // Messages whose replies it never reads, and which change while they are read.
  (peer) => {
    peer.ask("set", "hostile", below(100), "x".repeat(below(400)));
    for (let i = 0; i < 100; i++) peer.bytes[HEADER_BYTES + below(RING_BYTES)] = below(256);
  },
  // Claims.
  (peer) => {
    const claim = () => below(2) ? undefined : word();
    peer.write(NATIVE.subarray(0, below(7)), encoded(["ping"]), {
      length: claim(),
      headerLength: claim(),
      outside: claim(),
    });
    peer.ring();
  },
  // Many large replies, and doorbells.
  (peer) => {
    Atomics.store(peer.words, WORDS.sleeps, 1);
    peer.ask("get_many", "hostile", Array.from({ length: 100 }, (_, i) => i));
    for (let i = 0; i < 10; i++) peer.ring();
  },
];

if (import.meta.main) {
  const [endpoint] = Deno.args;
  for (;;) {
    await using peer = await LanePeer.connect(endpoint);
    const kind = KINDS[below(KINDS.length)];
    for (let i = 1 + below(2000); peer && i > 0; i--) {
      try {
        kind(peer);
      } catch {
        // (Too much waits to be sent.)
        break;
      }
      // (It is one client: it takes no processor from those that it should disturb.)
      if (i % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}
