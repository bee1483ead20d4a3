"""Pieces of the quickstart that are easiest in Python; nothing else uses them.

wheel VERSION MODULES DIR   writes a wheel of the package `demo` with that many modules; prints its path
tree DIR                    prints a hash of everything below DIR: names, types, modes, owners, times, contents
read                        imports `demo` as any program would; prints the versions that it met
"""

import base64
import hashlib
import os
import stat
import sys
import zipfile


def write_wheel(version: str, modules: int, directory: str) -> None:
    files = {
        f"demo/part_{number:04}.py": f"VERSION = {version!r}\nNUMBER = {number}\n".encode() for number in range(modules)
    }
    files["demo/__init__.py"] = f"VERSION = {version!r}\n".encode()
    info = f"demo-{version}.dist-info"
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: demo\nVersion: {version}\n".encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: demo\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\n"
        for name, data in files.items()
    )
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    path = os.path.join(directory, f"demo-{version}-py3-none-any.whl")
    with zipfile.ZipFile(path, "w") as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
    print(path)


def hash_tree(root: str) -> None:
    digest = hashlib.sha256()
    count = 0

    def add(path: str, name: str) -> None:
        nonlocal count
        count += 1
        info = os.lstat(path)
        facts = [name, oct(info.st_mode), info.st_uid, info.st_gid, info.st_nlink, info.st_mtime_ns]
        if stat.S_ISREG(info.st_mode):
            with open(path, "rb") as file:
                facts += [info.st_size, hashlib.sha256(file.read()).hexdigest()]
        elif stat.S_ISLNK(info.st_mode):
            facts.append(os.readlink(path))
        digest.update(repr(facts).encode("utf-8", "surrogateescape") + b"\n")
        if stat.S_ISDIR(info.st_mode):
            for child in sorted(os.listdir(path)):
                add(os.path.join(path, child), f"{name}/{child}")

    add(root, ".")
    print(digest.hexdigest()[:16], count)


def read() -> None:
    import importlib
    import importlib.metadata
    import pkgutil

    import demo

    names = sorted(module.name for module in pkgutil.iter_modules(demo.__path__))
    some = names[:: max(1, len(names) // 20)]
    versions = {importlib.import_module(f"demo.{name}").VERSION for name in some}
    versions |= {demo.VERSION, importlib.metadata.version("demo")}
    print(",".join(sorted(versions)))


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "wheel":
        write_wheel(arguments[0], int(arguments[1]), arguments[2])
    elif command == "tree":
        hash_tree(arguments[0])
    elif command == "read":
        read()
    else:
        sys.exit(__doc__)
