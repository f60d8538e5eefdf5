/**
 * The head of a heap that other processes may read: segment 0 of the memory, which holds no blocks. It leads to the data,
 * and tells a reader whether what it has read was whole.
 *
 * ```text
 * numbers of 32 bits, little-endian, at these bytes
 *      0  magic: "MSMH"      4  version: 1        8  segments: the highest in use, and 1
 *     16  token: 16 random bytes, which name the memory
 *     32  secret of the hash of keys: 2 numbers   40  secret of cursors: 2 numbers
 *     48  descriptor of the table of the tables' names    52  descriptor of the table of the sets' names
 *     56  state: 0 in use, 1 closed (another memory has taken its place, or the host has stopped)
 *    128  owner: 40 bytes of the system's. The first number is that of the thread that writes, while it lives
 *    256  structure: a sequence
 *  16384  pages: 4096 sequences                  32768  tables: 1024 sequences
 *  65536  end of the head
 * ```
 *
 * **Sequences.** A sequence is a number that is odd while something changes, and another one after each change (it counts
 * modulo 2^32). A reader takes the sequence, which must be even, reads, and takes it again: if it is the same, what was
 * read was whole. (Lameter: Effective Synchronization on Linux/NUMA Systems, 2005, calls this a sequence lock.)
 *
 * ```text
 * sequence                            changes with
 * structure                           which tables are dropped or replaced; where descriptors, directories and pages
 *                                     are, which page holds which hashes; once for a whole transaction
 * pages[address of the page & 4095]   the slots of the page, and the entries that they lead to
 * tables[address of its descriptor    how many entries the table has, and how many of them expire: together with the
 *        & 1023]                      page whose entry comes, goes or begins to expire
 * ```
 *
 * Several pages may share a sequence: then a reader reads again where it need not. Blocks are given back, and written again,
 * only after a change after which nothing leads to them.
 *
 * **Order.** A writer makes a sequence odd, changes the data, and makes it even; readers must see this in this order, and
 * read in theirs. On x86-64 the processor keeps the order of stores, and that of loads. The compiler, V8, does not move one
 * access to a typed array past another, and nothing past an `Atomics.load`, which is a plain load of the processor. The
 * writer makes one when it has made a sequence odd, the reader when it looks whether a sequence has changed. All else are
 * plain accesses. (An atomic store would wait for all stores before it: that takes a tenth of a large host's speed.) arm64
 * keeps neither order for plain accesses, so there the memory is not shared.
 *
 * **Owner.** It is a robust mutex of the C library (`pthread_mutexattr_setrobust(3)`), which the thread that writes holds
 * as long as it lives. When it ends, however it ends, the system replaces its number: readers see it with the next load.
 *
 * @module
 */

/** The bytes of the head. */
export const HEAD_BYTES: number = 1 << 16;
/** What the first two words hold. */
export const HEAD_MAGIC = 0x484d534d;
export const HEAD_VERSION = 1;
/** Where the token is, in bytes, and how long it is. */
export const HEAD_TOKEN = 16;
export const HEAD_TOKEN_BYTES = 16;
/** Where the owner is, in bytes. */
export const HEAD_OWNER = 128;

/** The indexes of the words of a head. */
export const SEGMENT_COUNT = 2;
export const HASH_SECRET = 32 / 4;
export const CURSOR_SECRET = 40 / 4;
/** The descriptor of the names of the tables; that of the sets is in the next word. */
export const NAMES = 48 / 4;
export const STATE = 56 / 4;
export const OWNER_THREAD: number = HEAD_OWNER / 4;
export const STRUCTURE = 256 / 4;
const PAGES = 16384 / 4;
const PAGES_MASK = 4096 - 1;
const TABLES = 32768 / 4;
const TABLES_MASK = 1024 - 1;

/** Values of {@linkcode STATE}. */
export const IN_USE = 0;
export const CLOSED = 1;

/** The index of the sequence of a page. */
export const pageSequence = (page: number): number => PAGES + (page & PAGES_MASK);
/** The index of the sequence of a table. */
export const tableSequence = (descriptor: number): number => TABLES + (descriptor & TABLES_MASK);
