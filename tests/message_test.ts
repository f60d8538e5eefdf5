/** Messages: frames taken apart, the header, and refusals, in both protocols. */

import assert from "node:assert/strict";
import { decodeMulti } from "@msgpack/msgpack";
import { type Code, header, MemStoreError, writeRefusal } from "../transport/message.ts";
import { Writer } from "../msgpack/msgpack.ts";
import { MAX_FRAMES, parseReply, parseRequest } from "../transport/zeromq/frames.ts";

const bytes = (...values: number[]) => new Uint8Array(values);
const id = bytes(0, 1, 2, 3, 4);
const empty = bytes();
const payload = bytes(0x91, 0xa4, 0x70, 0x69, 0x6e, 0x67);
/** A header of `length` bytes. */
const headed = (length: number) =>
  bytes(0x4d, 1, ...Array(Math.max(0, length - 2)).fill(7)).subarray(0, length);

Deno.test("parseRequest() takes a legacy request: routing id, empty frame, payload", () => {
  assert.deepEqual(parseRequest([id, empty, payload]), {
    envelope: [id, empty],
    legacy: true,
    batch: false,
    parts: false,
    payload,
    fault: undefined,
  });
});

Deno.test("parseRequest() takes a native request, whose header belongs to the envelope", () => {
  for (const length of [2, 6, 32]) {
    const request = parseRequest([id, empty, headed(length), payload]);
    assert.deepEqual(request, {
      envelope: [id, empty, headed(length)],
      legacy: false,
      batch: false,
      parts: false,
      payload,
      fault: undefined,
    });
  }
});

Deno.test("parseRequest() takes the longer envelopes of proxies, as far as the first empty frame", () => {
  const proxy = bytes(0, 9);
  assert.deepEqual(parseRequest([proxy, id, empty, payload]).envelope, [proxy, id, empty]);
  const native = parseRequest([proxy, proxy, id, empty, headed(6), payload]);
  assert.deepEqual(native.envelope, [proxy, proxy, id, empty, headed(6)]);
  assert.equal(native.legacy, false);
  assert.equal(native.fault, undefined);
});

Deno.test("parseRequest() takes an empty payload for what it is: no delimiter", () => {
  assert.deepEqual(parseRequest([id, empty, empty]), {
    envelope: [id, empty],
    legacy: true,
    batch: false,
    parts: false,
    payload: empty,
    fault: undefined,
  });
  assert.equal(parseRequest([id, empty, headed(6), empty]).fault, undefined);
  assert.equal(parseRequest([id, empty, headed(6), empty]).payload.length, 0);
});

Deno.test("parseRequest() of a message without a delimiter answers to the sender alone", () => {
  for (const frames of [[id, payload], [id, empty], [id, payload, payload], [empty, payload], [id]]) {
    const { envelope, legacy, fault } = parseRequest(frames);
    assert.deepEqual(envelope, [frames[0]]);
    assert.equal(legacy, true);
    assert.equal(fault, "an empty frame and a payload are needed");
  }
});

Deno.test("parseRequest() finds fault with a frame that is no header, and answers as to a legacy client", () => {
  for (const frame of [bytes(0x4e, 1), bytes(0), empty, payload]) {
    for (const more of [[], [payload, payload]]) {
      const { envelope, legacy, fault } = parseRequest([id, empty, frame, ...more, payload]);
      assert.deepEqual(envelope, [id, empty]);
      assert.equal(legacy, true);
      assert.equal(fault, "between the empty frame and the payload there may be a header alone");
    }
  }
});

Deno.test("parseRequest() takes the mark of a batch", () => {
  const marked = bytes(0x4d, 0x81, 1, 2, 3, 4);
  const request = parseRequest([id, empty, marked, payload]);
  assert.deepEqual(request, {
    envelope: [id, empty, marked],
    legacy: false,
    batch: true,
    parts: false,
    payload,
    fault: undefined,
  });
  assert.deepEqual(header(7, true), bytes(0x4d, 0x81, 0, 0, 0, 7));
  assert.equal(parseRequest([id, empty, header(7), payload]).batch, false);
  const inParts = parseRequest([id, empty, header(7, false, true), payload]);
  assert.deepEqual([inParts.batch, inParts.parts, inParts.fault], [false, true, undefined]);
  assert.equal(parseRequest([id, empty, header(7, true, true), payload]).parts, false);
});

Deno.test("parseRequest() finds fault with a long envelope, and repeats none of it", () => {
  const long = bytes(...Array(600).fill(1));
  for (const frames of [[id, long, empty, payload], [id, long, empty, headed(6), payload]]) {
    const { envelope, fault } = parseRequest(frames);
    assert.deepEqual(envelope, [id, empty]);
    assert.match(fault!, /^an envelope has 512 bytes at most: received 6\d\d$/);
  }
  const fits = bytes(...Array(512 - id.length).fill(1));
  const { envelope, fault } = parseRequest([id, fits, empty, payload]);
  assert.deepEqual([envelope, fault], [[id, fits, empty], undefined]);
});

for (
  const [what, head, text] of [
    [
      "of an unknown version",
      bytes(0x4d, 2, 9),
      "the host speaks version 1 of the protocol: received 2",
    ],
    ["of version 0", bytes(0x4d, 0), "the host speaks version 1 of the protocol: received 0"],
    ["of 1 byte", headed(1), "a header has 2 bytes at least: received 1"],
    ["of 33 bytes", headed(33), "a header has 32 bytes at most: received 33"],
  ] as const
) {
  Deno.test(`parseRequest() finds fault with a header ${what}, and echoes it`, () => {
    const { envelope, legacy, fault } = parseRequest([id, empty, head, payload]);
    assert.deepEqual(envelope, [id, empty, head]);
    assert.equal(legacy, false);
    assert.equal(fault, text);
  });
}

Deno.test("parseRequest() finds fault with several frames after the header", () => {
  const { envelope, legacy, fault } = parseRequest([id, empty, headed(6), payload, empty, payload]);
  assert.deepEqual(envelope, [id, empty, headed(6)]);
  assert.equal(legacy, false);
  assert.equal(fault, "one payload is needed: received 3 frames after the header");
});

Deno.test("parseRequest() finds fault with a message of too many frames, in words its sender understands", () => {
  const fill = (frames: Uint8Array[]) => [...frames, ...Array(MAX_FRAMES - frames.length).fill(payload)];
  const text = "a message has fewer than 64 frames";

  const legacy = parseRequest(fill([id, empty]));
  assert.deepEqual([legacy.envelope, legacy.legacy, legacy.fault], [[id, empty], true, text]);

  const native = parseRequest(fill([id, empty, headed(6)]));
  assert.deepEqual([native.envelope, native.legacy, native.fault], [[id, empty, headed(6)], false, text]);

  // What comes last here need not be the payload: the socket keeps no more frames than these.
  const proxied = parseRequest([...Array(MAX_FRAMES - 2).fill(id), empty, payload]);
  assert.equal(proxied.fault, text);
  const fewer = parseRequest([...Array(MAX_FRAMES - 3).fill(id), empty, payload]);
  assert.equal(fewer.fault, undefined);
  assert.equal(fewer.envelope.length, MAX_FRAMES - 2);
});

const refusal = (code: Code, legacy: boolean) => {
  const to = new Writer();
  writeRefusal(new MemStoreError(code, "because"), legacy, to);
  return [...decodeMulti(to.written)];
};
const codes: Code[] = [
  "BAD_REQUEST",
  "UNKNOWN_COMMAND",
  "BAD_ARGUMENT",
  "TOO_LARGE",
  "OUT_OF_MEMORY",
  "DENIED",
  "FAILED",
  "NOT_RUN",
];

Deno.test("writeRefusal() writes two items for native clients: 1, and the code with its text", () => {
  for (const code of codes) assert.deepEqual(refusal(code, false), [1, [code, "because"]]);
});

Deno.test("writeRefusal() writes -1 for legacy clients, and failed with a text for what was tried", () => {
  for (const code of codes) {
    assert.deepEqual(refusal(code, true), [code === "FAILED" ? ["failed", "because"] : -1]);
  }
});

Deno.test("parseReply() recognises the request that a header numbered", () => {
  for (const request of [0, 1, 255, 256, 2 ** 31, 2 ** 32 - 1]) {
    const head = header(request);
    assert.equal(parseRequest([id, empty, head, payload]).fault, undefined);
    assert.deepEqual(parseReply([empty, head, payload]), { request, payload });
    // Frames may be views into larger buffers.
    const view = new Uint8Array([9, 9, 9, ...head]).subarray(3);
    assert.equal(parseReply([empty, view, payload])?.request, request);
  }
});

Deno.test("parseReply() takes nothing else", () => {
  const foreign: Uint8Array[][] = [
    [],
    [empty],
    [payload],
    [empty, payload],
    [empty, header(1)],
    [id, header(1), payload],
    [empty, headed(5), payload],
    [empty, headed(7), payload],
    [empty, bytes(0x4e, 1, 0, 0, 0, 1), payload],
    [empty, header(1), payload, payload],
  ];
  for (const frames of foreign) assert.equal(parseReply(frames), undefined);
});
