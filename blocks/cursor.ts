/**
 * Cursors of scans, as clients see them.
 *
 * Within the engine a cursor is the hash of the next key ({@linkcode Table.walk}). Hashes must not be known outside:
 * with many of them one could choose keys that collide. So a cursor that leaves goes through a permutation of
 * the numbers of 32 bits that only this process knows: a Feistel network of eight rounds over two halves, with
 * HalfSipHash as the function of a round, under a secret of its own. 0 begins and ends a scan, and stays 0.
 *
 * @see Luby, Rackoff: How to Construct Pseudorandom Permutations from Pseudorandom Functions, 1988
 * @module
 */

import { halfSipHash } from "./hash.ts";

/** The secret of this process. */
export const cursorSecret: Int32Array = crypto.getRandomValues(new Int32Array(2));
const ROUNDS = 8;
const input = new Uint8Array(3);

function round(half: number, i: number, secret: Int32Array): number {
  input[0] = i;
  input[1] = half;
  input[2] = half >>> 8;
  return halfSipHash(input, 0, 3, secret[0], secret[1]) & 0xffff;
}

function permute(value: number, secret: Int32Array): number {
  let left = value >>> 16, right = value & 0xffff;
  for (let i = 0; i < ROUNDS; i++) [left, right] = [right, left ^ round(right, i, secret)];
  return (left << 16 | right) >>> 0;
}

function unpermute(value: number, secret: Int32Array): number {
  let left = value >>> 16, right = value & 0xffff;
  for (let i = ROUNDS - 1; i >= 0; i--) [left, right] = [right ^ round(left, i, secret), left];
  return (left << 16 | right) >>> 0;
}

/**
 * The cursor that a client is given.
 *
 * @param secret That of the process that holds the data.
 */
export function toClient(cursor: number, secret: Int32Array = cursorSecret): number {
  // (What would become 0 becomes what 0 would.)
  return cursor === 0 ? 0 : permute(cursor, secret) || permute(0, secret);
}

/** The cursor that a client was given, as the engine knows it. One that it made up may begin anywhere. */
export function fromClient(cursor: number, secret: Int32Array = cursorSecret): number {
  return cursor === 0 ? 0 : unpermute(cursor, secret) || unpermute(0, secret);
}
