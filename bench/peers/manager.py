"""A dict of multiprocessing.Manager, used by another process: get or set, one after another, of 10,000 keys in
random order. usage: manager.py get|set SECONDS (prints microseconds a call)"""

import random
import sys
import time
from multiprocessing import Manager

if __name__ == "__main__":
    what, seconds = sys.argv[1], float(sys.argv[2])
    keys = [str(i).zfill(12) for i in range(10_000)]
    values = {key: key.ljust(32, "v") for key in keys}
    random.Random(1).shuffle(keys)

    def measure(entries, seconds):
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            for _ in range(100):
                key = keys[count % len(keys)]
                count += 1
                if what == "get":
                    entries[key]
                else:
                    entries[key] = values[key]
        return (time.perf_counter() - start) / count * 1e6

    with Manager() as manager:
        entries = manager.dict(values)
        entries["check"] = values[keys[0]]
        if entries["check"] != values[keys[0]] or entries[keys[1]] != values[keys[1]]:
            sys.exit("the value read is not the value set")
        measure(entries, min(0.5, seconds / 2))
        print(measure(entries, seconds))
