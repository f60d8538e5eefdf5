"""
A client as pymemstore's were in 2013: a REQ socket, and MessagePack without str 8 and bin.

Runs what pymemstore's own test script did and a little more, against the host at the address given, from
the directory in which the host runs. Compares replies byte for byte. Prints "ok", or fails.
"""
import sys

import msgpack
import zmq


def pack(value):
    return msgpack.packb(value, use_bin_type=False)


def unpack(data):
    # raw: what Python 2 called str, strings and bytes alike. No str 8, bin or ext may come back.
    for new in (b"\xd9", b"\xc4", b"\xc5", b"\xc6", b"\xc7", b"\xd4"):
        assert not data.startswith(new), data
    return msgpack.unpackb(data, raw=True, strict_map_key=False)


class Client(object):
    def __init__(self, address):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.REQ)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVTIMEO, 10000)
        self.socket.connect(address)

    def send(self, *command):
        self.socket.send(pack(command))
        return self.socket.recv()

    def stop(self):
        self.socket.close()
        self.context.term()


def expect(reply, wanted):
    assert reply == pack(wanted), (reply, pack(wanted))


def done_in(reply, word):
    got = unpack(reply)
    assert got[0] == word and isinstance(got[1], float), reply
    assert reply[0] == 0x92 and reply[-9] == 0xCB, reply


client = Client(sys.argv[1])

# A state file that pymemstore wrote.
old = {
    b"version": 1,
    b"store": {
        b"table_one": {("%06d" % i).encode(): b"test value {0}" for i in range(20)},
        b"table_two": {("%04d" % i).encode(): ("best value %d" % i).encode() for i in range(10)},
        7: {b"\xff\xfe not text": [1, 2.5, None, True, b"x" * 300], -5: {b"deep": {b"er": 2 ** 63}}},
        b"empty": {},
    },
    b"sets": {b"test-set": [b"0045"], b"none": []},
}
with open("old.msgpack", "wb") as file:
    file.write(pack(old))
done_in(client.send("restore", "old.msgpack"), b"restored")
for name, table in old[b"store"].items():
    assert unpack(client.send("all", name)) == table
done_in(client.send("store", "new.msgpack"), b"stored")
with open("new.msgpack", "rb") as file:
    new = unpack(file.read())
# The one field that pymemstore did not write, and does not look at.
assert isinstance(new.pop(b"crc32"), int)
assert new == old

# What pymemstore's test script did.
info = unpack(client.send("info"))
assert isinstance(info[0], float) and info[1] == b"mb", info
for x in range(20):
    expect(client.send("set", "table_one", "%06d" % x, "test value {0}"), 1)
for x in range(10):
    expect(client.send("set", "table_two", "%04d" % x, "best value %d" % x), 1)
expect(client.send("get", "table_two", "0045"), None)
expect(client.send("get", "table_two", "0004"), "best value 4")
assert len(unpack(client.send("all", "table_two"))) == 10
expect(client.send("push", "test-set", "0045"), 1)
expect(client.send("push", "test-set", "1045"), 1)
expect(client.send("pull", "test-set", "1045"), 1)
expect(client.send("in_set", "test-set", "0045"), True)
expect(client.send("in_set", "test-set", "1045"), False)
expect(client.send("list_set", "test-set"), ["0045"])
expect(client.send("clear_set", "test-set"), 1)
expect(client.send("list_set", "test-set"), [])

# Values come back as they were packed, keys of every kind are found again.
for value in (b"\xff\x00raw", "x" * 31, "x" * 32, "x" * 255, "x" * 70000, [], {}, -1, 2 ** 64 - 1, 1.5, None, False):
    expect(client.send("set", "values", "x" * 40, value), 1)
    expect(client.send("get", "values", "x" * 40), value)
assert unpack(client.send("all", "values")) == {b"x" * 40: False}
expect(client.send("list_set", "no such set"), [])
expect(client.send("all", "no such table"), -1)
# In pymemstore, asking a table for a key made the table.
expect(client.send("get", "no such table", "key"), None)
expect(client.send("all", "no such table"), {})
# It did not look at what follows the arguments it needs.
expect(client.send("get", "table_two", "0004", "more"), "best value 4")

# What killed pymemstore.
expect(client.send("pull", "test-set", "not there"), 0)
expect(client.send("no such command"), -1)
expect(client.send("get"), -1)
expect(client.send("set", "table", "key"), -1)
expect(client.send(), -1)
for garbage in (b"", b"\x01", b"\xc1", b"\x93\xa3get", b"\xdd\xff\xff\xff\xff", b"\x91" * 10000):
    client.socket.send(garbage)
    expect(client.socket.recv(), -1)
failed = unpack(client.send("restore", "no such file"))
assert failed[0] == b"failed" and b"no such file" in failed[1], failed
failed = unpack(client.send("store", "no/such/directory"))
assert failed[0] == b"failed", failed

expect(client.send("done"), ["ok"])
client.stop()
print("ok")
