"""A file large enough to be read ahead, and to be cached once only.

make PATH          writes it, and drops it from the cache
read PATH          reads it from front to back, with jumps by another descriptor in between, then mapped
resident PATH      bytes of it in the cache
can-leave PATH     whether what is read of it can be kept out of the cache (RWF_DONTCACHE)
"""

import hashlib
import json
import mmap
import os
import random
import subprocess
import sys

SIZE = (40 << 20) + 12345
PIECE = 1 << 16
RWF_DONTCACHE = 0x80  # not in os yet


def evict(path):
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def make(path):
    generator = random.Random(7)
    with open(path, "wb") as file:
        for at in range(0, SIZE, PIECE):
            file.write(generator.randbytes(min(PIECE, SIZE - at)))
    evict(path)


def read(path):
    digest = hashlib.sha256()
    wanted = random.Random(7)
    jumps = random.Random(11)
    with open(path, "rb", buffering=0) as file, open(path, "rb", buffering=0) as other:
        at = 0
        while data := file.read(PIECE):
            assert data == wanted.randbytes(len(data)), f"other bytes at {at}"
            digest.update(data)
            at += len(data)
            if at % (8 * PIECE) == 0:
                assert len(os.pread(other.fileno(), 100, jumps.randrange(at))) == 100
        assert at == SIZE, f"{at} bytes"
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert hashlib.sha256(mapped).digest() == digest.digest(), "mapped, it has other bytes"
    return digest.hexdigest()


def resident(path):
    work = os.path.join(os.path.dirname(__file__), "..", "bench", "work.py")
    shown = subprocess.run([sys.executable, work, "resident", path], check=True, capture_output=True)
    return json.loads(shown.stdout)["bytes"]


def can_leave(path):
    with open(path, "rb") as file:
        try:
            os.preadv(file.fileno(), [bytearray(4096)], 0, RWF_DONTCACHE)
        except OSError:
            return False
    return resident(path) == 0


if __name__ == "__main__":
    print({"make": make, "read": read, "resident": resident, "can-leave": can_leave}[sys.argv[1]](sys.argv[2]))
