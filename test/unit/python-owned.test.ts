import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sourceOfBytecode } from '../../src/policy/bytecode.js';
import { leftoversOf } from '../../src/python/owned.js';
import type { TreeReader } from '../../src/python/distributions.js';

/** A tree of files by path. */
function treeOf(files: Record<string, string>): TreeReader {
  return {
    list(directory) {
      const prefix = directory === '' ? '' : `${directory}/`;
      const names = new Map<string, string>();
      for (const path of Object.keys(files)) {
        if (!path.startsWith(prefix)) continue;
        const [name = '', ...rest] = path.slice(prefix.length).split('/');
        names.set(name, rest.length > 0 ? 'directory' : 'file');
      }
      if (names.size === 0 && directory !== '') return null;
      return [...names].map(([name, type]) => ({ name, type }));
    },
    read: (path) => Promise.resolve(path in files ? Buffer.from(files[path]!) : null),
  };
}

const RECORD = ['x/__init__.py,,', 'x/a.py,,', 'shared/y.py,,', '../../bin/x,,', '/abs,,', 'x-2.dist-info/RECORD,,'];

test('what is left of a version that another one replaces', async () => {
  const head = treeOf({
    'x/__init__.py': '',
    'x/a.py': '',
    'x/__pycache__/a.cpython-311.pyc': '',
    'x/data': 'not in RECORD',
    'shared/y.py': '',
    'x-2.dist-info/METADATA': 'Name: X\nVersion: 2\n',
    'x-2.dist-info/RECORD': RECORD.join('\n'),
    'y-1.dist-info/METADATA': 'Name: y\nVersion: 1\n',
    'y-1.dist-info/RECORD': 'shared/y.py,,\n',
  });
  const ours = treeOf({ 'x/__init__.py': '', 'x-1.dist-info/METADATA': 'Name: x\nVersion: 1\n' });
  assert.deepEqual(await leftoversOf(new Set(['x']), [''], head, ours), ['x-2.dist-info', 'x/__pycache__', 'x/a.py']);
  assert.deepEqual(await leftoversOf(new Set(['z']), [''], head, ours), []);
});

test('a directory of which nothing stays goes whole', async () => {
  const head = treeOf({
    'x/a.py': '',
    'x.egg-info/PKG-INFO': 'Name: x\nVersion: 2\n',
    'x.egg-info/installed-files.txt': '../x/a.py\n',
  });
  assert.deepEqual(await leftoversOf(new Set(['x']), [''], head, treeOf({})), ['x', 'x.egg-info']);
});

test('the source of bytecode', () => {
  assert.equal(sourceOfBytecode('a/__pycache__/b.cpython-311.pyc'), 'a/b.py');
  assert.equal(sourceOfBytecode('__pycache__/b.cpython-311.opt-1.pyc'), 'b.py');
  assert.equal(sourceOfBytecode('__pycache__/test_b.cpython-311-pytest-7.4.3.pyc'), 'test_b.py');
  for (const path of ['a/b.pyc', 'a/__pycache__/b.py', 'x__pycache__/b.cpython-311.pyc']) {
    assert.equal(sourceOfBytecode(path), null);
  }
});
