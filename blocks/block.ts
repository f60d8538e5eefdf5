/**
 * Where a block is, and what kind of block it is.
 *
 * The engine keeps everything in **blocks** of bytes, and the blocks in **segments** of 1 MiB. A block begins at a
 * multiple of 8 bytes. Its **address** is the number of its segment and its place there, in units of 8 bytes, so that
 * 32 bits reach 32 GiB. There are no pointers: the same bytes mean the same wherever they are mapped.
 *
 * ```text
 * address   31        17 16              0
 *          ┌────────────┬─────────────────┐    0 is no block: segment 0 is never used
 *          │ segment    │ byte / 8        │
 *          └────────────┴─────────────────┘
 *
 * word 0 of each block (words have 32 bits, little-endian)
 *           31      30        29     28     27                             0
 *          ┌───────┬─────────┬──────┬──────┬────────────────────────────────┐
 *          │ TABLE │ EXPIRES │ LONG │ PAGE │ owner: the number of its table │
 *          └───────┴─────────┴──────┴──────┴────────────────────────────────┘
 *
 * entry        none of them, or EXPIRES, or LONG     entry.ts
 * descriptor   TABLE, or TABLE and LONG              descriptor.ts
 * page         PAGE                                  page.ts
 * directory    PAGE and LONG                         directory.ts
 * ```
 *
 * The functions in those files and in {@link ./lookup.ts} that read blocks need the segments and an address, and
 * nothing else: another process that maps the segments could use them. They check no bounds; where blocks may be
 * written meanwhile, their caller checks each address and length before it goes on.
 *
 * @module
 */

/** The memory in which blocks live. */
export interface Segments {
  /** Of each segment its bytes, and those behind it up to the end of the buffer that it is in. */
  readonly bytes: readonly Uint8Array[];
  /** The same as words. */
  readonly words: readonly Int32Array[];
}

/** The bytes of a segment. */
export const SEGMENT: number = 1 << 20;
/** The units of 8 bytes in a segment, as a number of bits: `address >>> UNIT_BITS` is the segment. */
export const UNIT_BITS = 17;
/** The bytes of all segments that have addresses. */
export const RANGE_BYTES: number = 2 ** (32 - UNIT_BITS) * SEGMENT;
/** The bits of an address that say where in its segment a block begins, in units of 8 bytes. */
export const UNIT_MASK: number = (1 << UNIT_BITS) - 1;

/** The bits of word 0. */
export const OWNER: number = (1 << 28) - 1;
export const PAGE: number = 1 << 28;
export const LONG: number = 1 << 29;
export const EXPIRES: number = 1 << 30;
export const TABLE: number = 1 << 31;

/** The index of a block's word 0 in its segment. */
export function wordAt(address: number): number {
  return (address & UNIT_MASK) << 1;
}
