/**
 * Where memory is that another process may map, as the process that has it tells.
 *
 * @module
 */

/** All that a process needs to open the memory of another one. */
export interface MemoryOffer {
  /** The process, … */
  pid: number;
  /** … and its descriptor of the memory. */
  fd: number;
  /** The token that the memory must hold: 16 bytes. */
  token: Uint8Array;
}
