"""Reads the tables of a memstore host in the host's memory. docs/memory.md explains the format, and each step."""

import fcntl, mmap, time
import msgpack

# Words of the head, and bits of a block's first word.
SEGMENTS, HASH_SECRET, TABLES, STATE, OWNER, STRUCTURE, PAGES = 2, 8, 12, 14, 32, 64, 4096
LONG, EXPIRES, TABLE = 1 << 29, 1 << 30, 1 << 31

class Gone(Exception):
    """The host has ended, or its data is in another memory now: ask it where."""

class Busy(Exception):
    """The data changed while it was read, again and again: ask the host for the value."""

class Reader:
    def __init__(self, pid, fd, token):  # the reply to the command `memory`
        with open(f"/proc/{pid}/fd/{fd}", "rb") as file:
            if not fcntl.fcntl(file, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
                raise Gone("this is no memory that stays as large as it is")
            self.bytes = mmap.mmap(file.fileno(), 1 << 35, prot=mmap.PROT_READ)
        self.words = memoryview(self.bytes).cast("I")
        if self.bytes[:8] != b"MSMH\1\0\0\0" or self.bytes[16:32] != token:
            raise Gone("this is another memory")
        self.owner = self.words[OWNER]
        self.secret = self.words[HASH_SECRET], self.words[HASH_SECRET + 1]

    def get(self, table, key):
        """Returns the value of a key, or None if there is none. Keys and names are str or int."""
        name, key = (msgpack.packb(each, use_bin_type=False) for each in (table, key))
        for attempt in range(100):
            time.sleep(attempt / 10_000)
            try:
                value = self._copy(name, key)
            except (Busy, IndexError, ValueError):
                value = Busy
            if self.words[STATE] != 0 or self.words[OWNER] != self.owner or not 0 < self.owner < 1 << 30:
                raise Gone("the host has ended, or its data is in another memory")
            if value is not Busy:
                return None if value is None else msgpack.unpackb(value, strict_map_key=False)
        raise Busy(f"the table {table!r} changes all the time")

    def _copy(self, name, key):  # the bytes of a value, or None
        words, h = self.words, half_sip_hash(name, *self.secret)
        structure = words[STRUCTURE]
        descriptor = self._entry(self._page(words[TABLES], h), h, name)
        h = half_sip_hash(key, *self.secret)
        page = self._page(descriptor, h)
        at = PAGES + (page & 4095)
        sequence = words[at]

        def check():
            if (structure | sequence) & 1 or words[at] != sequence or words[STRUCTURE] != structure:
                raise Busy

        entry = self._entry(page, h, key)
        if entry == 0:
            return check()
        _, begin, key_length, length, expiry = self._block(entry)
        check()  # (so that no length is believed that is none)
        value = self.bytes[begin + key_length : begin + key_length + length]
        check()
        return None if 0 < expiry <= time.time() * 1000 else value

    def _word(self, address):  # the index of a block's first word
        if address >> 17 >= self.words[SEGMENTS]:
            raise Busy
        return address * 2

    def _block(self, address):  # of an entry: the word after its lengths, where its key begins, lengths, expiry
        words, w = self.words, self._word(address)
        first, key, value = words[w], words[w + 1] & 255, words[w + 1] >> 8
        if first & LONG:
            key, value, w = words[w + 1], words[w + 2], w + 2
        expiry = words[w + 2] | words[w + 3] << 32 if first & EXPIRES else 0
        return w + 2, w * 4 + 8 + (32 if first & TABLE else 8 if expiry else 0), key, value, expiry

    def _page(self, descriptor, h):  # the address of the page of a hash, or 0
        if descriptor == 0:
            return 0
        state = self._block(descriptor)[0]
        root, depth = self.words[state], self.words[state + 1] & 255
        return root if depth == 0 else self.words[self._word(root) + 4 + (h >> 32 - depth)]

    def _entry(self, page, h, key):  # the address of the entry of a key, or 0
        if page == 0:
            return 0
        p = self._word(page)
        slots = 1 << (self.words[p + 1] & 15)
        for i in range(h, h + slots):
            slot = p + 4 + 2 * (i & slots - 1)
            entry = self.words[slot + 1]
            if entry == 0:
                return 0
            if self.words[slot] == h:
                _, begin, length, _, _ = self._block(entry)
                if length == len(key) and self.bytes[begin : begin + length] == key:
                    return entry
        return 0

def half_sip_hash(data, k0, k1):
    add = lambda a, b: a + b & 0xFFFFFFFF
    left = lambda a, bits: (a << bits | a >> 32 - bits) & 0xFFFFFFFF
    v0, v1, v2, v3 = k0, k1, k0 ^ 0x6C796765, k1 ^ 0x74656462
    words = memoryview(data + bytes(3 - len(data) % 4) + bytes([len(data) & 255])).cast("I").tolist()
    for i, word in enumerate(words + [0, 0, 0]):
        if i == len(words):
            v2 ^= 255
        v3 ^= word
        v0 = add(v0, v1)
        v1, v0 = left(v1, 5) ^ v0, left(v0, 16)
        v2 = add(v2, v3)
        v3 = left(v3, 8) ^ v2
        v0 = add(v0, v3)
        v3 = left(v3, 7) ^ v0
        v2 = add(v2, v1)
        v1, v2 = left(v1, 13) ^ v2, left(v2, 16)
        v0 ^= word
    return v1 ^ v3
