"""A dict of multiprocessing.Manager, asked by another process. Prints microseconds for each get in turn."""

import sys
import time
from multiprocessing import Manager

if __name__ == "__main__":
    seconds = float(sys.argv[1])
    with Manager() as manager:
        entries = manager.dict({"k": "v" * 32})
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            for _ in range(100):
                entries["k"]
            count += 100
        print((time.perf_counter() - start) / count * 1e6)
