#!/usr/bin/env python3
"""One writer that changes a tree step by step, waiting for a line on standard input before each, and one reader.

  steps.py write DIR EXIT-CODE     prints "done N" after step N, "end" when there is none left; exits with EXIT-CODE
  steps.py read DIR                for each line on standard input prints its tree, as JSON on one line
DIR holds what `posix_checks.py prepare DIR 1` made.
"""
import json
import os
import shutil
import sys

from checklib import BIG, RENAME_EXCHANGE, Place, renameat2, snapshot, write


def steps(root):
    def low(*names):
        return Place(root, '1', 'modes').low(*names)

    yield lambda: write(os.path.join(root, 'top-file'), b'new in the root')
    yield lambda: write(low('a.txt'), b'other content of the same name')
    yield lambda: os.truncate(low('big.bin'), 1000)
    yield lambda: os.chmod(low('run.sh'), 0o600)
    yield lambda: os.utime(low('b.txt'), ns=(1, 2))
    yield lambda: os.unlink(low('hard1'))
    yield lambda: os.rename(low('sub'), low('moved'))
    yield lambda: write(low('moved', 'deep', 'c.txt'), b'in a moved directory')
    yield lambda: os.mkdir(low('sub'))
    yield lambda: write(low('sub', 'b.txt'), BIG)
    yield lambda: os.replace(low('b.txt'), low('link'))
    yield lambda: os.setxattr(low('a.txt'), 'user.colour', b'red')
    yield lambda: renameat2(low('moved'), low('a.txt'), RENAME_EXCHANGE)
    yield lambda: shutil.rmtree(Place(root, '1', 'times').lower)
    yield lambda: os.rename(Place(root, '1', 'umask').lower, os.path.join(root, 'lower-elsewhere'))
    yield lambda: os.rmdir(low('empty'))
    yield lambda: os.symlink('top-file', os.path.join(root, 'top-link'))
    yield lambda: os.chmod(root, 0o700)
    yield lambda: os.chmod(root, 0o755)


def main():
    command, root = sys.argv[1:3]
    os.umask(0o022)
    if command == 'read':
        for _ in sys.stdin:
            print(json.dumps(snapshot(root, True)), flush=True)
        return 0
    for number, step in enumerate(steps(root)):
        sys.stdin.readline()
        step()
        print(f'done {number}', flush=True)
    sys.stdin.readline()
    print('end', flush=True)
    sys.stdin.readline()
    return int(sys.argv[3])


if __name__ == '__main__':
    sys.exit(main())
