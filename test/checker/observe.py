"""What one process of the checker sees: looks at the generated distributions in one way, and says what it saw.

Each look runs in a process of its own (see reader.py and writer.py). It never judges: it gives raw read sets
    {"begin", "end", "seen": {distribution: {what was read: version or None}}, "errors": [[type, text]]}
and judge.ts says which of them can't be. `None` means not installed. Times are CLOCK_MONOTONIC, in ns.
"""

import hashlib
import importlib
import importlib.metadata
import os
import random
import re
import stat
import sys
import time
import traceback

GROUP = "siteswap.checker"
STAMP = re.compile(rb"stamp: ([a-z_]+)/([0-9.]+)\n")


class Look:
    def __init__(self, kind, begin=None):
        self.kind = kind
        self.begin = begin or time.monotonic_ns()
        self.end = None
        self.seen = {}
        self.errors = []

    def saw(self, name, what, version):
        self.seen.setdefault(name, {})[what] = version

    def failed(self, what, error):
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{what}: {error} ({os.path.basename(where.filename)}:{where.lineno})"
        self.errors.append([type(error).__name__, text])

    def first_reads_done(self):
        """A pinned process's generation is chosen by now."""
        self.end = time.monotonic_ns()

    def report(self):
        return {
            "kind": self.kind,
            "pid": os.getpid(),
            "begin": self.begin,
            "end": self.end or time.monotonic_ns(),
            "seen": self.seen,
            "errors": self.errors,
        }


def metadata_version(look, name, what="metadata"):
    try:
        look.saw(name, what, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        look.saw(name, what, None)
    except Exception as error:
        look.failed(f"metadata of {name}", error)


def module_version(look, name, module, what):
    """Imports `module` of the distribution `name`; a package that is not there at all is a fine answer."""
    try:
        look.saw(name, what, importlib.import_module(module).VERSION)
    except ModuleNotFoundError as error:
        if error.name != name:
            look.failed(f"import {module}", error)
        else:
            look.saw(name, what, None)
    except Exception as error:
        look.failed(f"import {module}", error)


def fresh_import(look, names, rng):
    """(a) a module, its submodule, the metadata."""
    chosen = rng.sample(names, min(3, len(names)))
    for name in chosen:
        steps = [
            lambda: metadata_version(look, name),
            lambda: module_version(look, name, name, "module"),
            lambda: module_version(look, name, name + ".sub", "submodule"),
        ]
        if rng.random() < 0.5:
            steps = steps[1:] + steps[:1]
        for step in steps:
            step()


def lazy_import(look, names, rng, daemons):
    """(b) imports now, and the rest when the world has moved on; in a forked child too."""
    chosen = rng.sample(names, min(3, len(names)))
    for name in chosen:
        module_version(look, name, name, "module")
        metadata_version(look, name)
    look.first_reads_done()
    if daemons and rng.random() < 0.5:
        become_daemon()
        look.kind += " (daemon)"
    for turn in range(2):
        time.sleep(rng.uniform(0.3, 2.0))
        for name in chosen:
            module_version(look, name, f"{name}.{['sub', 'lazy.deep'][turn]}", f"submodule imported later {turn + 1}")
            metadata_version(look, name, f"metadata read later {turn + 1}")
    for name in chosen:
        in_fork(look, name)


def become_daemon():
    """As `gunicorn --daemon` does: who goes on is a fork whose parents have ended, with their modules."""
    for _ in range(2):
        if os.fork() != 0:
            os._exit(0)
        os.setsid()


def in_fork(look, name):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            inner = Look(look.kind)
            module_version(inner, name, name + ".plugin", "submodule imported in a fork")
            if name not in inner.seen and not inner.errors:
                inner.errors.append(["Nothing", "the fork saw nothing"])
            import json

            os.write(writer, json.dumps([inner.seen, inner.errors]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    import json

    try:
        seen, errors = json.loads(text)
    except ValueError as error:
        return look.failed("fork", error)
    look.errors += errors
    for what, version in seen.get(name, {}).items():
        look.saw(name, what, version)


def entry_points(look, names, rng):
    """(c) everything that is enumerated can be loaded, and is of the version that its metadata says."""
    for name in names:
        look.saw(name, "entry point", None)
    try:
        found = list(importlib.metadata.entry_points(group=GROUP))
    except Exception as error:
        return look.failed("entry_points()", error)
    for entry in found:
        name, _, version = entry.name.partition("@")
        if name not in names:
            continue
        if look.seen[name]["entry point"] is not None:
            look.errors.append(["Duplicate", f"two entry points of {name}"])
        look.saw(name, "entry point", version)
        try:
            look.saw(name, "entry point, loaded", entry.load()())
            look.saw(name, "entry point's metadata", entry.dist.version)
        except Exception as error:
            look.failed(f"load {entry.value}", error)


def walk(look, directory, names, ignored, rng):
    """(d) lists, stats and reads everything."""
    infos = {name: [] for name in names}
    packages = set()
    big = rng.random() < 0.25
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError as error:
        return look.failed("scandir of the root", error)
    for entry in entries:
        owner, _, rest = entry.name.partition("-")
        if entry.name in ignored or entry.name == "__pycache__":
            continue
        if owner not in names or (rest and not rest.endswith(".dist-info")):
            look.errors.append(["Cruft", entry.name])
            continue
        if rest:
            version = rest[: -len(".dist-info")]
            infos[owner].append(version)
            look.saw(owner, "dist-info's name", version)
        else:
            packages.add(owner)
        tree(look, owner, entry.path, big)
    for name in names:
        if len(infos[name]) > 1:
            look.errors.append(["Duplicate", f"{name} has metadata of {' and '.join(sorted(infos[name]))}"])
        if not infos[name]:
            look.saw(name, "dist-info's name", None)
        if name not in packages:
            look.saw(name, "package", None)
        elif infos[name]:
            recorded(look, directory, name, infos[name][-1])


def tree(look, owner, top, big):
    try:
        for folder, folders, files in os.walk(top, onerror=lambda error: look.failed("listing", error)):
            if "__pycache__" in folders:
                folders.remove("__pycache__")
            for name in files:
                path = os.path.join(folder, name)
                size = os.stat(path).st_size
                if name.startswith("mark-"):
                    look.saw(owner, "name of a file", name[len("mark-"):])
                elif name == "serial" or name == "lib.bin" and not big:
                    continue
                else:
                    contents(look, owner, path, size)
    except OSError as error:
        look.failed("walk", error)


def contents(look, owner, path, size):
    with open(path, "rb") as file:
        data = file.read()
    what = f"file {os.path.basename(path)}"
    if len(data) != size:
        look.errors.append(["Size", f"{path}: stat says {size}, there are {len(data)}"])
    if path.endswith(".bin"):
        version, problem = check_big(data)
        if problem:
            look.errors.append(["Torn", f"{path}: {problem}"])
        else:
            look.saw(owner, what, version)
        return
    stamps = set(STAMP.findall(data))
    if path.endswith("METADATA"):
        stamps = {(owner.encode(), v) for v in re.findall(rb"^Version: (.*)$", data, re.M)}
    elif path.endswith("entry_points.txt"):
        stamps = {(owner.encode(), v) for v in re.findall(rb"@([0-9.]+) =", data)}
    elif path.endswith("RECORD"):
        stamps = {(owner.encode(), v) for v in re.findall(rb"-([0-9.]+)\.dist-info/RECORD,,", data)}
    elif path.endswith(("WHEEL", "INSTALLER", "REQUESTED", "direct_url.json")):
        return
    if len(stamps) != 1:
        look.errors.append(["Torn", f"{path}: {len(data)} bytes, stamps {sorted(stamps)}"])
        return
    look.saw(owner, what, stamps.pop()[1].decode())


def recorded(look, directory, name, version):
    """Every file of RECORD is there, with its size."""
    info = f"{name}-{version}.dist-info"
    try:
        with open(os.path.join(directory, info, "RECORD")) as record:
            for line in record:
                path, _, size = line.rstrip("\n").rsplit(",", 2)
                if path.startswith(".."):
                    continue
                found = os.stat(os.path.join(directory, path))
                if size and found.st_size != int(size):
                    look.errors.append(["Size", f"{path}: RECORD says {size}, there are {found.st_size}"])
    except OSError as error:
        look.failed("RECORD", error)


PAGE = 4096


def check_big(data):
    """The version of a library-like file, every page of which names it; or what is wrong with it."""
    if len(data) == 0 or len(data) % PAGE:
        return None, f"{len(data)} bytes"
    head = data[: data.index(b"#")] if b"#" in data[:PAGE] else None
    if head is None:
        return None, "no stamp in the first page"
    name, version, pages = head.decode().split("/")
    if int(pages) * PAGE != len(data):
        return None, f"{len(data) // PAGE} of {pages} pages"
    if data != big_file(name, version, int(pages)):
        for page in range(int(pages)):
            at = data[page * PAGE: page * PAGE + 40]
            if not at.startswith(head + b"#%d#" % page):
                return None, f"page {page} of {head.decode()} begins with {at!r}"
        return None, "a page is damaged"
    return version, None


def big_file(name, version, pages):
    """As generated by distribution.ts."""
    head = f"{name}/{version}/{pages}#".encode()
    return b"".join((head + b"%d#" % page).ljust(PAGE, b".") for page in range(pages))


def digest(data):
    return hashlib.sha256(data).hexdigest()


def run(kind, directory, names, ignored, rng, begin=None, daemons=False):
    """One look of a fresh process. `daemons`: it may go on as one."""
    look = Look(kind, begin)
    sys.path.insert(0, directory)
    if kind == "import":
        fresh_import(look, names, rng)
    elif kind == "lazy":
        lazy_import(look, names, rng, daemons)
    elif kind == "entry-points":
        entry_points(look, names, rng)
    elif kind == "walk":
        walk(look, directory, names, ignored, rng)
    else:
        raise SystemExit(f"no such look: {kind}")
    return look.report()


def is_missing(error):
    return isinstance(error, FileNotFoundError)
