import assert from 'node:assert/strict';
import { test } from 'node:test';
import { diffDistributions, listDistributions } from '../../src/python/distributions.js';
import { touchedMetadata } from '../../src/python/verify.js';
import { memoryTree } from '../helpers/python-tree.js';

function metadata(name: string, version: string): string {
  return `Metadata-Version: 2.1\nName: ${name}\nVersion: ${version}\n\n`;
}

const FULL = {
  'foo-1.0.dist-info/METADATA': metadata('Foo_X', '1.0'),
  'foo-1.0.dist-info/RECORD': '',
  'foo/__init__.py': '',
  'bar-2.0-py3.11.egg-info/PKG-INFO': metadata('bar', '2.0'),
  'old-0.1.egg-info': metadata('old', '0.1'),
  'dev.egg-link': '/src/dev\n.',
  'broken-3.dist-info/RECORD': '',
  '~oo-1.0.dist-info/METADATA': metadata('foo', '0'),
};

test('every kind of distribution is listed', async () => {
  assert.deepEqual(await listDistributions(memoryTree(FULL)), [
    { name: 'bar', version: '2.0', kind: 'egg-info', path: 'bar-2.0-py3.11.egg-info' },
    { name: 'broken', version: '3', kind: 'dist-info', path: 'broken-3.dist-info' },
    { name: 'dev', version: '', kind: 'egg-link', path: 'dev.egg-link' },
    { name: 'foo-x', version: '1.0', kind: 'dist-info', path: 'foo-1.0.dist-info' },
    { name: 'old', version: '0.1', kind: 'egg-info', path: 'old-0.1.egg-info' },
  ]);
});

test('differences by name', () => {
  const of = (name: string, version: string) => ({
    name,
    version,
    kind: 'dist-info' as const,
    path: `${name}-${version}`,
  });
  assert.deepEqual(
    diffDistributions([of('a', '1'), of('b', '1'), of('c', '1')], [of('a', '2'), of('c', '1'), of('d', '1')]),
    [
      { name: 'a', from: '1', to: '2' },
      { name: 'b', from: '1', to: null },
      { name: 'd', from: null, to: '1' },
    ],
  );
});

test('touched metadata', () => {
  const changes = ['foo/a.py', 'foo-1.dist-info', 'foo-1.dist-info/RECORD', 'sub/x.egg-info/PKG-INFO', 'd.egg-link'];
  assert.deepEqual(touchedMetadata(changes.map((path) => ({ path, kind: 'added' }))), [
    'd.egg-link',
    'foo-1.dist-info',
    'sub/x.egg-info',
  ]);
});
