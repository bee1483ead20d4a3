"""A reader of the checker: looks at the directory again and again until its standard input ends.

    python reader.py KIND --directory DIR --names a,b --ignored FILE --seed N [--once] [--exec-share F]

`import`, `lazy`, `entry-points` and `walk` look from processes of their own: children of this one, which itself never
touches the directory, most of them forked only (cheap: many looks), a share of them a new program. `descriptors` and
`stat` are one long-lived process that never lists the directory. One JSON line for each look, on standard output.
"""

import argparse
import fcntl
import json
import mmap
import os
import random
import select
import sys
import time
import traceback

sys.dont_write_bytecode = True
import observe  # noqa: E402

FLAGS = ["-E", "-s", "-S"]


def emit(report):
    """Several processes write to one pipe, more than a pipe takes at once."""
    line = (json.dumps(report) + "\n").encode()
    with open(__file__) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        while line:
            line = line[os.write(1, line):]


def goes_on(seconds=0.0):
    """False when standard input has ended."""
    readable, _, _ = select.select([0], [], [], seconds)
    return not readable or os.read(0, 1) != b""


def look_once(arguments, begin=None):
    rng = random.Random(arguments.seed)
    # Readers that write byte code beside what they import are readers too.
    sys.dont_write_bytecode = rng.random() < 0.5
    report = observe.run(arguments.kind, arguments.directory, arguments.names, arguments.ignored, rng, begin, daemons=arguments.once)
    report["how"] = "exec" if arguments.once else "fork"
    emit(report)


def looks(arguments):
    rng = random.Random(arguments.seed)
    most = 5 if arguments.kind == "lazy" else 1
    running = {}

    def reap(options):
        while running:
            pid, status = os.waitpid(-1, options)
            if pid == 0:
                return
            running.pop(pid)
            if status != 0:
                emit(died(arguments.kind, pid, status))
            if options == 0:
                return

    while goes_on(rng.uniform(0, 2 * arguments.pause)):
        begin = time.monotonic_ns()
        seed = rng.randrange(1 << 30)
        if rng.random() < arguments.exec_share:
            command = [sys.executable, *FLAGS, __file__, *sys.argv[1:], "--once", "--seed", str(seed)]
            # Not subprocess, which reaps children whose object is gone.
            nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
            child = os.posix_spawn(command[0], command, os.environ, file_actions=[nothing])
        else:
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    arguments.seed = seed
                    look_once(arguments, begin)
                    code = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(code)
        running[child] = True
        reap(0 if len(running) >= most else os.WNOHANG)
    while running:
        reap(0)


def died(kind, pid, status):
    code = os.waitstatus_to_exitcode(status)
    now = time.monotonic_ns()
    return {"kind": kind, "pid": pid, "begin": now, "end": now, "seen": {}, "errors": [["Died", f"status {code}"]]}


def stat_loop(arguments):
    """(f) single names, by a process that is pinned nowhere."""
    rng = random.Random(arguments.seed)
    directory = arguments.directory
    newest = -1
    while goes_on(rng.uniform(0, 2 * arguments.pause)):
        for name in rng.sample(arguments.names, len(arguments.names)):
            look = observe.Look("stat")
            try:
                if rng.random() < 0.5:
                    look.saw(name, "serial", os.stat(f"{directory}/{name}/serial").st_size)
                else:
                    marks = [n for n in os.listdir(f"{directory}/{name}") if n.startswith("mark-")]
                    if len(marks) == 1:
                        look.saw(name, "name of a file", marks[0][len("mark-"):])
                    else:
                        look.errors.append(["Torn", f"{name} has {len(marks)} marks"])
            except OSError as error:
                if not observe.is_missing(error):
                    look.failed("stat", error)
                else:
                    try:
                        os.stat(f"{directory}/{name}")
                    except FileNotFoundError:
                        look.saw(name, "serial", None)
                    except OSError as other:
                        look.failed("stat", other)
                    else:
                        # There now, and not there before: an install came between, or a torn one is there.
                        look.seen.clear()
                        partial(look, directory, name)
            emit(look.report())
        look = observe.Look("stat")
        try:
            modified = os.stat(directory).st_mtime_ns
            if modified < newest:
                look.errors.append(["Order", f"the root's mtime went back by {newest - modified} ns"])
            newest = max(newest, modified)
        except OSError as error:
            look.failed("stat of the root", error)
        emit(look.report())


def partial(look, directory, name):
    """A package that stays without its file for a while was never whole."""
    deadline = time.monotonic() + 0.002
    while time.monotonic() < deadline:
        try:
            folder = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return
        try:
            os.stat("serial", dir_fd=folder)
            return
        except FileNotFoundError as error:
            look.failed("stat in a folder that is held open", error)
            return
        except OSError as error:
            look.failed("stat in a folder that is held open", error)
            return
        finally:
            os.close(folder)


class Held:
    """An open library and its mapping."""

    def __init__(self, directory, name):
        self.look = observe.Look("descriptors")
        self.name = name
        self.uses = 0
        self.path = f"{directory}/{name}/lib.bin"
        self.fd = os.open(self.path, os.O_RDONLY)
        self.look.first_reads_done()
        size = os.fstat(self.fd).st_size
        self.map = mmap.mmap(self.fd, size, mmap.MAP_SHARED, mmap.PROT_READ) if size else b""
        data = self.map[:]
        version, problem = observe.check_big(data)
        if problem:
            self.look.errors.append(["Torn", f"{self.path}: {problem}"])
        else:
            self.look.saw(name, "lib.bin, opened", version)
        self.digest = observe.digest(data)

    def use(self, drop):
        """The same bytes as ever, by read and by mapping; with `drop`, not from what is cached."""
        self.uses += 1
        if drop and self.map:
            self.map.madvise(mmap.MADV_DONTNEED)
            os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        for how in ("read", "mmap"):
            if how == "mmap":
                data = self.map[:]
            else:
                data = b""
                while chunk := os.pread(self.fd, 1 << 20, len(data)):
                    data += chunk
            if observe.digest(data) != self.digest:
                _, problem = observe.check_big(data)
                self.look.errors.append(["Changed", f"{self.path} by {how} after {self.uses} uses: {problem}"])

    def close(self):
        if self.map:
            self.map.close()
        os.close(self.fd)
        emit(self.look.report())


def descriptors(arguments):
    """(e) open files and mappings, held across swaps."""
    rng = random.Random(arguments.seed)
    held = []
    while goes_on(rng.uniform(0, 2 * arguments.pause)):
        if len(held) < 6 or rng.random() < 0.3:
            name = rng.choice(arguments.names)
            begin = observe.Look("descriptors")
            try:
                held.append(Held(arguments.directory, name))
            except FileNotFoundError as error:
                begin.end = time.monotonic_ns()
                if os.path.isdir(f"{arguments.directory}/{name}") and not goes_back(arguments.directory, name):
                    begin.failed("open", error)
                else:
                    begin.saw(name, "lib.bin, opened", None)
                emit(begin.report())
            except (OSError, ValueError) as error:
                begin.failed("open", error)
                emit(begin.report())
        if held:
            file = rng.choice(held)
            try:
                file.use(drop=rng.random() < 0.3)
            except OSError as error:
                file.look.failed("use", error)
        if len(held) > 6:
            held.pop(rng.randrange(len(held))).close()
    for file in held:
        file.close()


def goes_back(directory, name):
    """Whether the file is there now: then it was an install that came between."""
    return os.path.exists(f"{directory}/{name}/lib.bin")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind")
    parser.add_argument("--directory", required=True)
    parser.add_argument("--names", required=True, type=lambda text: text.split(","))
    parser.add_argument("--ignored", required=True, help="file: names in the directory that are not ours, one a line")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--pause", type=float, default=0.02, help="mean seconds between two looks")
    parser.add_argument("--exec-share", type=float, default=0.2)
    parser.add_argument("--once", action="store_true")
    arguments = parser.parse_args()
    with open(arguments.ignored) as file:
        arguments.ignored = set(file.read().splitlines())
    if arguments.once:
        look_once(arguments)
    elif arguments.kind == "descriptors":
        descriptors(arguments)
    elif arguments.kind == "stat":
        stat_loop(arguments)
    else:
        looks(arguments)


if __name__ == "__main__":
    main()
