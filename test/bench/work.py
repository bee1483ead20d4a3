"""The measured work, one process each: work.py NAME ARGUMENT... Prints one line of JSON with the seconds that the work took.

Started by interleave.ts with the base interpreter (-I -S: nothing of it comes from the tree that is measured), or with that
of the environment where importing is the work. Time to start Python counts only where the work says so.
"""

import json
import os
import sys
from resource import RUSAGE_CHILDREN, getrusage
from time import perf_counter, process_time

PAGE = 4096
SMALL_BYTES = 256 * 1024
MISSES = 100_000


class Timer:
    """Seconds and CPU seconds since it was made, of this process and of the children that it has waited for."""

    def __init__(self):
        self.cpu = self.used()
        self.began = perf_counter()

    def used(self):
        children = getrusage(RUSAGE_CHILDREN)
        return process_time() + children.ru_utime + children.ru_stime

    def finish(self, share=1, **more):
        seconds = perf_counter() - self.began
        print(json.dumps({"seconds": seconds / share, "cpu": (self.used() - self.cpu) / share, **more}))


def import_stack(*names):
    timer = Timer()
    for name in names:
        __import__(name)
    timer.finish(count=len(sys.modules))


def entries(top):
    """Directories first, as os.walk does, without its conveniences."""
    waiting = [top]
    while waiting:
        with os.scandir(waiting.pop()) as listing:
            for entry in listing:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)


def walk(top):
    timer = Timer()
    count = 0
    for entry in entries(top):
        entry.stat(follow_symlinks=False)
        count += 1
    timer.finish(count=count)


def scan(top):
    """What `git status` does: every known path is asked for, no directory is listed."""
    paths = [entry.path for entry in entries(top)]
    timer = Timer()
    for path in paths:
        os.lstat(path)
    timer.finish(count=len(paths))


def read_all(top):
    """Every small file, by open, fstat, read and close. The walk is made before, and is not timed."""
    paths = [
        entry.path
        for entry in entries(top)
        if entry.is_file(follow_symlinks=False) and entry.stat().st_size <= SMALL_BYTES
    ]
    timer = Timer()
    size = 0
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        wanted = os.fstat(descriptor).st_size
        size += len(os.read(descriptor, wanted + 1))
        os.close(descriptor)
    timer.finish(count=len(paths), bytes=size)


def misses(top, token):
    """Names that don't exist, in 100 directories. The same names each time when the token is the same."""
    directories = []
    for entry in entries(top):
        if entry.is_dir(follow_symlinks=False):
            directories.append(entry.path)
        if len(directories) == 100:
            break
    passes = 10 if token == "again" else 1
    names = [f"{path}/no-{token}-{number}" for path in directories for number in range(MISSES // 1000)]
    timer = Timer()
    for _ in range(passes):
        for name in names:
            try:
                os.stat(name)
            except FileNotFoundError:
                continue
            raise SystemExit(f"{name} exists")
    timer.finish(count=len(names) * passes)


def read_big(path):
    buffer = bytearray(1 << 20)
    timer = Timer()
    with open(path, "rb", buffering=0) as file:
        size = 0
        while count := file.readinto(buffer):
            size += count
    timer.finish(bytes=size)


def map_big(path):
    import mmap

    with open(path, "rb", buffering=0) as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        timer = Timer()
        touched = len(mapped[::PAGE])
        timer.finish(count=touched)


def resident(*paths):
    """Bytes of these files that are in the kernel's caches now, together."""
    import ctypes
    import mmap

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    total = 0
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        size = os.fstat(descriptor).st_size
        address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
        pages = ctypes.create_string_buffer((size + PAGE - 1) // PAGE)
        if libc.mincore(address, size, pages) != 0:
            raise OSError(ctypes.get_errno(), "mincore")
        total += sum(page & 1 for page in pages.raw) * PAGE
        os.close(descriptor)
    print(json.dumps({"seconds": total, "cpu": 0, "bytes": total}))


def start(times, *command):
    """Whole processes, one after another: the seconds of one."""
    timer = Timer()
    for _ in range(int(times)):
        check(os.waitpid(os.posix_spawn(command[0], command, os.environ), 0))
    timer.finish(share=int(times))


def run(*command):
    """One program, from its start to its exit."""
    timer = Timer()
    check(os.waitpid(os.posix_spawnp(command[0], command, os.environ), 0))
    timer.finish()


def together(times, *command):
    """So many processes at once, until the last one has ended."""
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    timer = Timer()
    pids = [os.posix_spawn(command[0], command, os.environ, file_actions=silent) for _ in range(int(times))]
    for pid in pids:
        check(os.waitpid(pid, 0))
    timer.finish()


def check(ended):
    if ended[1] != 0:
        raise SystemExit(f"a process ended with {ended[1]}")


def rename(directory):
    """A directory to another name and back, after a first change has begun the transaction."""
    mark = os.path.join(os.path.dirname(directory), "bench-mark")
    with open(mark, "w"):
        pass
    timer = Timer()
    os.rename(directory, directory + "-renamed")
    timer.finish()
    os.rename(directory + "-renamed", directory)
    os.unlink(mark)


def make_tree(top, entries):
    """Packages of 1,000 entries: ten directories of 99 empty files each."""
    for package in range(int(entries) // 1000):
        for part in range(10):
            directory = f"{top}/package_{package}/part_{part}"
            os.makedirs(directory)
            for number in range(99):
                os.close(os.open(f"{directory}/module_{number}.py", os.O_WRONLY | os.O_CREAT, 0o644))


def fill(directory, files):
    """A new package. Waits for a line before it begins; says when it is done, and ends with standard input."""
    sys.stdin.readline()
    timer = Timer()
    os.mkdir(directory)
    content = b"x = 1\n" * 200
    for number in range(int(files)):
        with open(f"{directory}/module_{number}.py", "wb", buffering=0) as file:
            file.write(content)
    timer.finish(count=int(files))
    sys.stdout.flush()
    sys.stdin.read()


def stalls(*paths):
    """Asks for the paths again and again until standard input ends. Prints each call of more than 100 us: when, how long."""
    import select
    from time import monotonic_ns

    slow = []
    count = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        for path in paths:
            began = monotonic_ns()
            os.stat(path)
            took = monotonic_ns() - began
            count += 1
            if took > 100_000:
                slow.append((began, took))
    print(json.dumps({"count": count, "slow": slow}))


WORKS = {
    "make-tree": make_tree,
    "fill": fill,
    "stalls": stalls,
    "import": import_stack,
    "walk": walk,
    "scan": scan,
    "read-all": read_all,
    "misses": misses,
    "read-big": read_big,
    "map-big": map_big,
    "resident": resident,
    "run": run,
    "start": start,
    "together": together,
    "rename": rename,
}

if __name__ == "__main__":
    WORKS[sys.argv[1]](*sys.argv[2:])
