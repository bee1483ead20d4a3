import assert from 'node:assert/strict';
import { test } from 'node:test';
import { diffDistributions, listDistributions, type TreeReader } from '../../src/python/distributions.js';
import { touchedMetadata, verify } from '../../src/python/verify.js';

/** A tree from path → content. */
function tree(files: Record<string, string>): TreeReader {
  const paths = Object.keys(files);
  return {
    list(path) {
      const prefix = path === '' ? '' : `${path}/`;
      const below = paths.filter((each) => each.startsWith(prefix));
      if (below.length === 0 && path !== '') return null;
      const names = new Set(below.map((each) => each.slice(prefix.length).split('/')[0] ?? ''));
      return [...names].map((name) => ({ name, type: paths.includes(prefix + name) ? 'file' : 'directory' }));
    },
    read: (path) => Promise.resolve(files[path] === undefined ? null : Buffer.from(files[path])),
  };
}

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
  assert.deepEqual(await listDistributions(tree(FULL)), [
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

async function verdict(after: Record<string, string>, before: Record<string, string> = {}) {
  const paths = new Set([...Object.keys(after), ...Object.keys(before)]);
  const changes = [...paths]
    .filter((path) => after[path] !== before[path])
    .map((path) => ({ path, kind: 'modified' as const }));
  return verify({ before: tree(before), after: tree(after), changes });
}

test('a whole upgrade passes, and is told as one', async () => {
  const { findings, packages } = await verdict(
    { 'foo-2.dist-info/METADATA': metadata('foo', '2'), 'foo-2.dist-info/RECORD': '' },
    { 'foo-1.dist-info/METADATA': metadata('foo', '1'), 'foo-1.dist-info/RECORD': '' },
  );
  assert.deepEqual(findings, []);
  assert.deepEqual(packages, [{ name: 'foo', from: '1', to: '2' }]);
});

test('metadata that is not whole is an error for each file', async () => {
  const { findings } = await verdict({
    'foo-1.dist-info/INSTALLER': 'pip',
    'bar.egg-info/SOURCES.txt': '',
    'old.egg-info': '',
  });
  assert.deepEqual(
    findings.map(({ severity, check, message }) => `${severity} ${check}: ${message}`),
    [
      'error metadata-complete: bar.egg-info has no PKG-INFO',
      'error metadata-complete: foo-1.dist-info has no METADATA',
      'error metadata-complete: foo-1.dist-info has no RECORD',
    ],
  );
});

test('old defects and removals are nobody’s fault', async () => {
  const broken = { 'foo-1.dist-info/INSTALLER': 'pip' };
  assert.deepEqual((await verdict({ ...broken, 'a.py': '' }, broken)).findings, []);
  const removed = await verdict({}, { 'foo-1.dist-info/METADATA': metadata('foo', '1'), 'foo-1.dist-info/RECORD': '' });
  assert.deepEqual(removed, { findings: [], packages: [{ name: 'foo', from: '1', to: null }] });
});
