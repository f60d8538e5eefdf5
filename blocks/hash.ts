/**
 * The hash of keys: HalfSipHash-1-3, with a secret of this process, so that nobody can choose keys that
 * collide.
 *
 * It is SipHash with words of 32 bits, which is what JavaScript computes fast; Linux uses it for its own hash
 * tables (`hsiphash`).
 *
 * @see Aumasson, Bernstein: SipHash, a fast short-input PRF, 2012. https://www.aumasson.jp/siphash/siphash.pdf
 * @see https://docs.kernel.org/security/siphash.html
 * @module
 */

/** The secret of this process. */
export const hashSecret: Int32Array = crypto.getRandomValues(new Int32Array(2));
const [K0, K1] = hashSecret;

/** The hash of `bytes[from..to)`, a signed integer of 32 bits. */
export function hash(bytes: Uint8Array, from: number, to: number): number {
  return halfSipHash(bytes, from, to, K0, K1);
}

/** {@linkcode hash} with a key of one's own. */
export function halfSipHash(bytes: Uint8Array, from: number, to: number, k0: number, k1: number): number {
  let v0 = k0, v1 = k1, v2 = k0 ^ 0x6c796765, v3 = k1 ^ 0x74656462;
  let at = from;
  let last = (to - from) << 24;
  let finishing = 0;
  for (;;) {
    let word: number;
    if (at + 4 <= to) {
      word = bytes[at] | bytes[at + 1] << 8 | bytes[at + 2] << 16 | bytes[at + 3] << 24;
      at += 4;
    } else if (finishing === 0) {
      for (let shift = 0; at < to; shift += 8) last |= bytes[at++] << shift;
      word = last;
      finishing = 1;
    } else {
      word = 0;
      if (finishing++ === 1) v2 ^= 0xff;
    }
    v3 ^= word;
    v0 = v0 + v1 | 0;
    v1 = (v1 << 5 | v1 >>> 27) ^ v0;
    v0 = v0 << 16 | v0 >>> 16;
    v2 = v2 + v3 | 0;
    v3 = (v3 << 8 | v3 >>> 24) ^ v2;
    v0 = v0 + v3 | 0;
    v3 = (v3 << 7 | v3 >>> 25) ^ v0;
    v2 = v2 + v1 | 0;
    v1 = (v1 << 13 | v1 >>> 19) ^ v2;
    v2 = v2 << 16 | v2 >>> 16;
    v0 ^= word;
    if (finishing === 4) return v1 ^ v3;
  }
}
