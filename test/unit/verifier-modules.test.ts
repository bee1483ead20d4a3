import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TreeReader } from '../../src/python/distributions.js';
import { memoryTree } from '../helpers/python-tree.js';
import { touchedModules } from '../../src/verifier/modules.js';

function tree(paths: readonly string[]): TreeReader {
  return memoryTree(Object.fromEntries(paths.map((path) => [path, ''])));
}

/** Of a tree in which all of `added` was added, and `there` was before. */
function added(paths: readonly string[], there: readonly string[] = []): string[] {
  const changes = paths.map((path) => ({ path, kind: 'added' as const }));
  return touchedModules(changes, tree([...paths, ...there]));
}

const latin1 = (text: string): string => Buffer.from(text, 'utf8').toString('latin1');

test('modules, packages and extension modules', () => {
  assert.deepEqual(
    added([
      'six.py',
      'demo/__init__.py',
      'demo/sub.py',
      'legacy.pyc',
      '_fast.cpython-311-x86_64-linux-gnu.so',
      '_stable.abi3.so',
      '_plain.so',
      '_other.pypy39-pp73-x86_64-linux-gnu.so',
      'ext/__init__.cpython-311-x86_64-linux-gnu.so',
      latin1('ünï.py'),
    ]),
    ['_fast', '_other', '_plain', '_stable', 'demo', 'ext', 'legacy', 'six', 'ünï'],
  );
});

test('what is no module', () => {
  assert.deepEqual(
    added([
      'demo-1.0.dist-info/RECORD',
      'numpy.libs/libgfortran.so',
      '__pycache__/six.cpython-311.pyc',
      'foo-stubs/__init__.pyi',
      'typed/__init__.pyi',
      'bin/tool',
      'share/man/man1/tool.1',
      'distutils-precedence.pth',
      '__init__.py',
      '__main__.py',
      'README.md',
      '1st.py',
      'libfoo.so',
      'libfoo.1.so',
      'libfoo.so.1',
    ]),
    [],
  );
});

test('namespace packages: the packages in them', () => {
  assert.deepEqual(
    added([
      'google/protobuf/__init__.py',
      'google/cloud/storage/__init__.py',
      'google/cloud/storage/blob.py',
      'google/cloud/_private/__init__.py',
      'ns/x.py',
    ]),
    ['google.cloud.storage', 'google.protobuf'],
  );
});

test('a change below a package is a change of it', () => {
  assert.deepEqual(added(['demo/data/table.bin'], ['demo/__init__.py', 'other/__init__.py']), ['demo']);
});

test('what is gone is not imported; what is left of it is', () => {
  const changes = ['gone/__init__.py', 'gone.py', 'left/sub.py', 'two.py', 'half/__init__.py'].map((path) => ({
    path,
    kind: 'removed' as const,
  }));
  const after = tree(['left/__init__.py', 'two.abi3.so', 'half/data.txt']);
  assert.deepEqual(touchedModules(changes, after), ['left', 'two']);
});

test('attributes: of files only', () => {
  const after = tree(['a/__init__.py', 'b/sub.py', 'b/__init__.py', 'c/d/e.py', 'c/__init__.py']);
  const changes = ['a', 'b/sub.py', 'c/d'].map((path) => ({ path, kind: 'attributes' as const }));
  assert.deepEqual(touchedModules(changes, after), ['b']);
});

test('an environment: modules lie in its site-packages', () => {
  assert.deepEqual(
    added([
      'bin/activate.py',
      'lib/python3.11/site-packages/demo/__init__.py',
      'lib/python3.11/site-packages/six.py',
      'lib/python3.11/json/__init__.py',
      'local/lib/python3.11/dist-packages/debian/__init__.py',
    ]),
    ['debian', 'demo', 'six'],
  );
});
