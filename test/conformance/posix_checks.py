#!/usr/bin/env python3
"""The table of checks, run alike on a plain directory and on a mount: all in this one process, which is then one writer.

  posix_checks.py prepare DIR TAG            makes what the checks find there
  posix_checks.py run DIR TAG [options]      runs them; a JSON line a check: {"name", "error": null | text, "seconds"}
      --only NAME,…      these only
      --next TAG         afterwards prepare for a later run, so that it finds files of a committed layer
      --tree FILE        afterwards write down what the tree looks like, as JSON
  posix_checks.py tree DIR [--whole]         prints it
"""
import argparse
import json
import os
import sys
import time
import traceback

import checks_attributes  # noqa: F401  pylint: disable=unused-import
import checks_data  # noqa: F401  pylint: disable=unused-import
import checks_names  # noqa: F401  pylint: disable=unused-import
from checklib import CHECKS, Place, prepare, snapshot


def run(options):
    names = options.only.split(',') if options.only else list(CHECKS)
    failed = 0
    for name in names:
        at = Place(options.dir, options.tag, name)
        began = time.monotonic()
        error = None
        try:
            os.mkdir(at.new)
            CHECKS[name](at)
        except Exception as e:  # pylint: disable=broad-except
            where = [f for f in traceback.extract_tb(e.__traceback__) if 'checks_' in f.filename]
            line = where[-1].lineno if where else 0
            error = f'line {line}: {type(e).__name__}: {e}'
            failed += 1
        print(json.dumps({'name': name, 'error': error, 'seconds': round(time.monotonic() - began, 3)}), flush=True)
    if options.next:
        prepare(options.dir, options.next)
    if options.tree:
        with open(options.tree, 'w', encoding='utf-8') as f:
            json.dump(snapshot(options.dir, False), f)
    return failed


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest='command', required=True)
    p = commands.add_parser('prepare')
    p.add_argument('dir')
    p.add_argument('tag')
    p = commands.add_parser('run')
    p.add_argument('dir')
    p.add_argument('tag')
    p.add_argument('--only')
    p.add_argument('--next')
    p.add_argument('--tree')
    p = commands.add_parser('tree')
    p.add_argument('dir')
    p.add_argument('--whole', action='store_true')
    options = parser.parse_args()
    os.umask(0o022)
    if options.command == 'prepare':
        prepare(options.dir, options.tag)
    elif options.command == 'run':
        run(options)  # failed checks are in the output: the exit code is about the transaction, which must commit
    else:
        json.dump(snapshot(options.dir, options.whole), sys.stdout)


if __name__ == '__main__':
    main()
