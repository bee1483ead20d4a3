#!/usr/bin/env python3
"""What a process finds that already stood in the tree (open files, a cwd) when its first change began its transaction.

  standing.py DIR     prints a JSON object: what was tried → what came of it
"""
import errno
import json
import os
import sys

from checklib import Place, read, write


def main():
    root = sys.argv[1]
    low = Place(root, '1', 'modes').low
    results = {}

    def attempt(name, function):
        try:
            results[name] = function()
        except OSError as error:
            results[name] = errno.errorcode[error.errno]

    writable = os.open(low('a.txt'), os.O_RDWR)
    readable = os.open(low('b.txt'), os.O_RDONLY)
    number = os.fstat(readable).st_ino
    directory = os.open(low('sub'), os.O_RDONLY)
    top = os.open(root, os.O_RDONLY)
    os.chdir(low('sub', 'deep'))
    # Now the kernel has these listings, and need not ask.
    for listed in (directory, '.'):
        os.listdir(listed)
    write(os.path.join(root, 'begin'), b'')

    def renamed():
        os.rename(low('sub'), low('sub2'))
        return os.path.relpath(os.getcwd(), low())

    attempt('the number of a file stays', lambda: os.stat(low('b.txt')).st_ino == number)
    attempt('a write by descriptor shows at the path', lambda: os.write(writable, b'W') and read(low('a.txt')).decode())
    attempt('fchmod', lambda: os.fchmod(readable, 0o600))
    attempt('futimens', lambda: os.utime(readable, ns=(1, 2)))
    attempt('fsetxattr', lambda: os.setxattr(readable, 'user.x', b'1'))
    write(low('b.txt'), b'by path')
    attempt('a write by path shows at the descriptor', lambda: os.pread(readable, 100, 0).decode())
    attempt('creating in the cwd', lambda: write('x', b'') or sorted(os.listdir(low('sub', 'deep'))))
    attempt('listing the cwd', lambda: sorted(os.listdir('.')))
    write(low('sub', 'new.txt'), b'')
    attempt('a change by path shows in a listing by descriptor', lambda: 'new.txt' in os.listdir(directory))
    os.remove(low('sub', 'new.txt'))
    attempt('listing the root by descriptor', lambda: 'begin' in os.listdir(top))
    attempt('the path of the cwd follows a rename', renamed)
    attempt('creating in the cwd after that', lambda: write('y', b''))
    os.mkdir(low('sub'))
    attempt('listing a renamed directory by descriptor', lambda: sorted(os.listdir(directory)))
    json.dump(results, sys.stdout)


if __name__ == '__main__':
    main()
