"""What tests/python_reader_test.ts runs: reads a host's memory with docs/reader.py, and compares.

python_reader.py DIRECTORY_OF_READER ENDPOINT MODE
"""

import os, signal, sys, time
import msgpack, zmq

sys.path.insert(0, sys.argv[1])
from reader import Busy, Gone, Reader

socket = zmq.Context().socket(zmq.REQ)
socket.linger = 0
socket.rcvtimeo = 10_000
socket.connect(sys.argv[2])


def send(*command):
    socket.send_multipart([b"M\x01", msgpack.packb(command)])
    _, reply = socket.recv_multipart()
    status, value = msgpack.unpackb(b"\x92" + reply, strict_map_key=False)
    assert status == 0, value
    return value


def attach():
    offer = send("memory")
    assert isinstance(offer, dict), offer
    return Reader(**offer)


def same(found, expected, what):
    assert found == expected, f"{what}: {str(found)[:100]} is not {str(expected)[:100]}"


def values():
    """All kinds of keys, values and tables that there are."""
    reader = attach()
    same(reader.get("no such table", "key"), None, "a table that does not exist")
    for key in ["", "a", "x" * 31, "x" * 32, "x" * 255, "x" * 256, "x" * 65_000, "ä", 0, 127, 128, 255, 256,
                65_536, 2**32, 2**63, 2**64 - 1, -1, -32, -33, -128, -129, -40_000, -(2**31) - 1, -(2**63)]:
        for value in [None, True, 1.5, "text", b"bytes", [1, [2]], {"a": {1: 2}}, "x" * 300_000]:
            same(send("set", "kinds", key, value), 1, "set")
            same(reader.get("kinds", key), value, f"the value of {str(key)[:50]}")
    same(reader.get("kinds", "missing"), None, "a missing key")
    same(reader.get("kinds", "1"), None, "a string is no integer")
    for name in [1, "", "n" * 255, "n" * 256, "n" * 60_000]:
        same(send("set", name, "key", str(name)), 1, "set")
        same(reader.get(name, "key"), str(name), "a table of another name")
    # LONG entries: a long key (above), and values that go through several segments, of 8 MiB and more.
    for length in [1 << 20, (1 << 23) - 10, 1 << 23, (1 << 23) + 1, 20 << 20]:
        value = os.urandom(length)
        same(send("set", "long", length, value), 1, "set")
        same(reader.get("long", length) == value, True, f"a value of {length} bytes")
        same(send("expire", "long", length, 1000), 1, "expire")
        same(reader.get("long", length) == value, True, f"one of {length} bytes that expires")
    # A table grows from one page to a directory.
    for start in range(0, 100_000, 10_000):
        send("set_many", "many", {i: i * i for i in range(start, start + 10_000)})
        same(reader.get("many", start), start * start, "the first of them")
    for i in range(0, 100_000, 7):
        same(reader.get("many", i), i * i, "one of many")
        same(reader.get("many", -1 - i), None, "none of many")
    for i in range(0, 1000):
        same(send("del", "many", i), 1, "del")
        same(reader.get("many", i), None, "one that was deleted")
    same(send("drop", "many"), 1, "drop")
    same(reader.get("many", 5000), None, "one of a table that was dropped")
    same(send("set", "many", 5000, 1), 1, "set")
    same(reader.get("many", 5000), 1, "one of a table that was dropped, and made again")


def expiry():
    """Entries expire for readers by themselves: here the host is stopped, and cannot remove them."""
    pid = send("memory")["pid"]
    reader = attach()
    first = time.time()
    for i in range(100):
        send("set", "short", i, i, 1 + i / 100)
    send("set", "short", "long", "long", 3600)
    last = time.time()
    os.kill(pid, signal.SIGSTOP)
    try:
        while time.time() < last + 2.1:
            for i in range(0, 100, 9):
                begin, value, end = time.time(), reader.get("short", i), time.time()
                assert value is None or value == i, value
                if end < first + 0.99 + i / 100:
                    same(value, i, "one that has not expired")
                if begin > last + 1.01 + i / 100:
                    same(value, None, "one that has expired")
        same([reader.get("short", i) for i in range(100)], [None] * 100, "all have expired")
        same(reader.get("short", "long"), "long", "but for one")
    finally:
        os.kill(pid, signal.SIGCONT)


def torn():
    """Beside a writer: each value is whole, none is older than one that was read, and batches are all or nothing."""
    reader = attach()
    busy = 0

    def get(table, key):
        nonlocal busy
        while True:
            try:
                return reader.get(table, key)
            except Busy:
                busy += 1
                assert busy < 1000, "it is always busy"

    seen, reads, changes, last = {}, 0, 0, 0
    end = time.monotonic() + 60
    while (reads < 5000 or changes < 500) and time.monotonic() < end:
        for key in range(4):
            number, text = get("hot", key)
            same(text, chr(97 + number % 26) * (100_000 + number % 3 * 1000 * (key % 2)), f"the value of {number}")
            assert number >= seen.get(key, 0), f"{number} came after {seen[key]}"
            changes += number > seen.get(key, 0)
            seen[key] = number
            one, other = get("pair", "one"), get("pair", "other")
            assert last <= one <= other, f"half of a batch: {last}, {one}, {other}"
            last = other
            present = get("pages", number % 3000)
            assert present is None or present % 3000 == number % 3000, f"{present} is the value of another key"
            same(get("fixed", number % 1000), number % 1000, "an entry that nobody changes")
            reads += 5
    assert reads >= 5000 and changes >= 500, f"{reads} reads of {changes} values in time, {busy} were busy"


def moved():
    """After a restore the data is elsewhere."""
    reader = attach()
    send("set", "users", "alice", 31)
    same(send("store", "state.msgpack")[0], "stored", "store")
    send("set", "users", "alice", 32)
    same(reader.get("users", "alice"), 32, "before the restore")
    same(send("restore", "state.msgpack")[0], "restored", "restore")
    try:
        assert False, f"it is not gone: {reader.get('users', 'alice')}"
    except Gone:
        pass
    same(attach().get("users", "alice"), 31, "after the restore")


def gone():
    """The host is killed while this reads."""
    reader = attach()
    send("set", "users", "alice", 31)
    print("reading", flush=True)
    end = time.monotonic() + 20
    try:
        while time.monotonic() < end:
            same(reader.get("users", "alice"), 31, "a value")
        assert False, "it is not gone"
    except Gone:
        pass


{"values": values, "expiry": expiry, "torn": torn, "moved": moved, "gone": gone}[sys.argv[3]]()
print("ok")
