"""What the checks are made of: the table, the place a check works in, system calls that `os` lacks, tree snapshots.

A check is a function of a Place; it is right when it returns. Imported by checks_*.py, posix_checks.py, steps.py.
"""
import ctypes
import errno
import hashlib
import os
import stat
import sys

CHECKS = {}
BIG = bytes(range(251)) * 1300  # 326,300 bytes: more than one read-ahead window, no power of two

RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_COLLAPSE_RANGE, FALLOC_ZERO_RANGE = 1, 2, 8, 16
AT_FDCWD, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = -100, 0x400, 0x1000

_libc = ctypes.CDLL(None, use_errno=True)


def check(function):
    """Puts a function into the table, under its own name."""
    CHECKS[function.__name__] = function
    return function


class Place:
    """`new`: an empty directory made by the run itself. `lower`: what `prepare` made before (see there)."""

    def __init__(self, root, tag, name):
        self.root = root
        self.new = os.path.join(root, f'new{tag}-{name}')
        self.lower = os.path.join(root, f'lower{tag}-{name}')

    def path(self, *names):
        return os.path.join(self.new, *names)

    def low(self, *names):
        return os.path.join(self.lower, *names)


def prepare(root, tag):
    """For each check a directory with everything that a site-packages may hold, to be found there by the run."""
    for name in CHECKS:
        at = Place(root, tag, name)
        os.makedirs(at.low('sub', 'deep'))
        os.mkdir(at.low('empty'))
        write(at.low('a.txt'), b'hello lower\n')
        write(at.low('b.txt'), b'second\n')
        write(at.low('sub', 'b.txt'), b'b in sub\n')
        write(at.low('sub', 'deep', 'c.txt'), b'c in deep\n')
        write(at.low('big.bin'), BIG)
        write(at.low('hard1'), b'two names\n')
        os.link(at.low('hard1'), at.low('hard2'))
        os.symlink('a.txt', at.low('link'))
        os.symlink('nowhere', at.low('dangling'))
        write(at.low('run.sh'), b'#!/bin/sh\necho ran "$@"\n', 0o755)
        os.setxattr(at.low('a.txt'), 'user.colour', b'blue')


# ---- small tools ----------------------------------------------------------------------------------------------------


def write(path, data, mode=0o644):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        assert os.write(fd, data) == len(data)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def read(path):
    with open(path, 'rb') as f:
        return f.read()


def equal(actual, expected, what=''):
    if actual != expected:
        raise AssertionError(f'{what or "value"}: {shorten(actual)} where {shorten(expected)} was expected')


def shorten(value):
    text = repr(value)
    return text if len(text) < 300 else f'{text[:200]}… ({len(text)} characters)'


def fails(code, function, *args, **options):
    """The call must fail, with this errno (or one of these)."""
    codes = code if isinstance(code, tuple) else (code,)
    try:
        result = function(*args, **options)
    except OSError as error:
        if error.errno in codes:
            return
        expected = ' or '.join(errno.errorcode[c] for c in codes)
        got = errno.errorcode.get(error.errno, error.errno)
        raise AssertionError(f'{function.__name__}{shorten(args)}: {got} where {expected} was expected') from None
    expected = ' or '.join(errno.errorcode[c] for c in codes)
    raise AssertionError(f'{function.__name__}{shorten(args)} gave {shorten(result)} where {expected} was expected')


def _call(name, *args):
    ctypes.set_errno(0)
    result = getattr(_libc, name)(*args)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)
    return result


def renameat2(old, new, flags):
    return _call('renameat2', AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), ctypes.c_uint(flags))


def fallocate(fd, mode, offset, length):
    return _call('fallocate', fd, mode, ctypes.c_long(offset), ctypes.c_long(length))


def linkat(old_fd, old, new, flags):
    return _call('linkat', old_fd, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags)


def syncfs(fd):
    return _call('syncfs', fd)


def as_user(uid, function, *args):
    """Runs it in a forked child without any capability; its exception, as text, is raised here."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            function(*args)
        except BaseException as error:  # pylint: disable=broad-except
            os.write(writer, f'{type(error).__name__}: {error}'.encode()[:4000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, 'rb') as f:
        text = f.read()
    os.waitpid(pid, 0)
    if text:
        raise AssertionError(f'as user {uid}: {text.decode()}')


# ---- snapshots ------------------------------------------------------------------------------------------------------


def describe(path, whole):
    st = os.lstat(path)
    item = {'mode': oct(st.st_mode), 'owner': f'{st.st_uid}:{st.st_gid}', 'nlink': st.st_nlink}
    directory = stat.S_ISDIR(st.st_mode)
    if whole or not directory:
        item['mtime'] = st.st_mtime_ns
    if whole:
        item['ctime'] = st.st_ctime_ns
        item['ino'] = st.st_ino
    if not directory:
        item['size'] = st.st_size
    if stat.S_ISLNK(st.st_mode):
        item['target'] = os.fsencode(os.readlink(path)).decode('latin1')
    elif stat.S_ISREG(st.st_mode):
        item['hash'] = hashlib.sha256(read(path)).hexdigest()
    elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
        item['rdev'] = st.st_rdev
    if stat.S_ISREG(st.st_mode) or directory:
        names = sorted(n for n in os.listxattr(path) if n.startswith('user.'))
        if names:
            item['xattrs'] = {n: os.getxattr(path, n).decode('latin1') for n in names}
    return item


def snapshot(root, whole):
    """Path → everything about it. `whole`: also inode numbers, change times and the times of directories."""
    items = {'': describe(root, whole)}
    stack = [os.fsencode(root)]
    base = len(stack[0]) + 1
    while stack:
        directory = stack.pop()
        with os.scandir(directory) as entries:
            found = [(e.path, e.is_dir(follow_symlinks=False)) for e in entries]
        for path, is_directory in found:
            items[path[base:].decode('latin1')] = describe(path, whole)
            if is_directory:
                stack.append(path)
    return dict(sorted(items.items()))


def log(text):
    print(text, file=sys.stderr, flush=True)
