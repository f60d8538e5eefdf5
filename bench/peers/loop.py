"""pymemstore's loop in Python 3: one REP socket, one command a message. usage: loop.py ENDPOINT"""

import sys

import msgpack
import zmq

socket = zmq.Context().socket(zmq.REP)
socket.bind(sys.argv[1])
tables = {}
print("ready", flush=True)
while True:
    name, table, key, *value = msgpack.unpackb(socket.recv())
    entries = tables.setdefault(table, {})
    if name == "set":
        entries[key] = value[0]
        socket.send(msgpack.packb(1))
    else:
        socket.send(msgpack.packb(entries.get(key)))
