import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dependencyFindings } from '../../src/python/checks/dependencies.js';
import { readFacts, type DistributionFacts } from '../../src/python/checks/facts.js';
import { MARKERS, memoryTree, saidOf, wheelFiles } from '../helpers/python-tree.js';

function facts(name: string, version: string, ...requires: string[]): DistributionFacts {
  return { name, project: name, version, kind: 'dist-info', path: `${name}-${version}.dist-info`, requires };
}

function said(
  before: DistributionFacts[],
  after: DistributionFacts[],
  markers: typeof MARKERS | null = MARKERS,
): string[] {
  return dependencyFindings(before, after, { markers }).map(({ severity, message }) => `${severity}: ${message}`);
}

test('what was satisfied and is not any more is an error', () => {
  const x = facts('x', '2.0', 'y<2');
  assert.deepEqual(said([x, facts('y', '1.9')], [x, facts('y', '2.1')]), [
    'error: x 2.0 needs y<2, but y 2.1 is installed',
  ]);
  assert.deepEqual(said([facts('x', '1', 'y'), facts('y', '2.1')], [x, facts('y', '2.1')]), [
    'error: x 2.0 needs y<2, but y 2.1 is installed',
  ]);
  assert.deepEqual(said([facts('y', '2.1')], [x, facts('y', '2.1')]), [
    'error: x 2.0 needs y<2, but y 2.1 is installed',
  ]);
  assert.deepEqual(said([], [x, facts('y', '1.9')]), []);
  // A pre-release that is installed is no question.
  assert.deepEqual(said([], [facts('x', '1', 'y>=2.0b1,<=2'), facts('y', '2.0rc1')]), []);
});

test('what is missing is a warning', () => {
  const x = facts('x', '2.0', 'y.z >=1 , <2.*,!=1.5.*');
  assert.deepEqual(said([], [facts('x', '2.0', 'Y.z >=1,!=1.5.*')]), [
    'warning: x 2.0 needs Y.z>=1,!=1.5.*, which is not installed',
  ]);
  assert.deepEqual(said([], [x]), [], 'what pip can’t parse it does not judge');
  const z = facts('z', '1', 'y');
  assert.deepEqual(said([z, facts('y', '1')], [z]), ['warning: z 1 needs y, which is no longer installed']);
  assert.deepEqual(said([z, facts('y', '1')], []), []);
});

test('what was broken before and still is, is nobody’s', () => {
  const x = facts('x', '2.0', 'y<2');
  assert.deepEqual(said([x], [x]), []);
  assert.deepEqual(said([x, facts('y', '2.1')], [x, facts('y', '2.2'), facts('z', '1')]), []);
  assert.deepEqual(said([x, facts('y', '2.1')], [x]), []);
  assert.deepEqual(said([x], [x, facts('y', '2.1')]), ['warning: x 2.0 needs y<2, but y 2.1 is installed']);
});

test('markers and extras', () => {
  const x = facts('x', '1', 'a; python_version < "3"', 'b; extra == "more"', 'c; sys_platform == "linux"');
  assert.deepEqual(said([], [x]), ['warning: x 1 needs c, which is not installed']);
  assert.deepEqual(said([], [x], null), []);
  const user = facts('user', '1', 'x[More]');
  assert.deepEqual(said([], [x, user, facts('c', '1')]), ['warning: x 1 needs b, which is not installed']);
  assert.deepEqual(said([], [x, user, facts('c', '1'), facts('b', '1')]), []);
  const ring = [facts('p', '1', 'q[e]', 'q[e]; extra == "e"'), facts('q', '1', 'p[e]; extra == "e"')];
  assert.deepEqual(said([], ring), []);
});

test('versions that nobody knows are right; other directories count', () => {
  const x = facts('x', '1', 'y>=2', 'z @ https://example.invalid/z.zip');
  assert.deepEqual(said([], [x, facts('y', ''), facts('z', 'what')]), []);
  const elsewhere = [
    { name: 'Y', version: '2' },
    { name: 'z', version: '0' },
  ];
  assert.deepEqual(dependencyFindings([], [x], { markers: MARKERS, elsewhere }), []);
});

test('facts of every kind of distribution', async () => {
  const metadata = 'Metadata-Version: 2.1\nName: Old_One\nVersion: 3\n';
  const tree = memoryTree({
    ...wheelFiles({ name: 'foo', requires: ['bar>1', 'baz; extra == "x"'] }),
    'old-3-py3.11.egg-info/PKG-INFO': metadata,
    'old-3-py3.11.egg-info/requires.txt': 'bar\n[x]\nbaz\n',
    'egg-1.0-py3.11.egg/EGG-INFO/PKG-INFO': metadata.replace('Old_One', 'egg'),
    'zipped-2-py3.egg': 'PK',
    'link.egg-link': '/src',
    'single-1.egg-info': metadata.replace('Old_One', 'single'),
    '~oo-1.dist-info/METADATA': metadata,
  });
  const all = await readFacts(tree);
  assert.deepEqual(
    all.map(({ name, version, kind, requires }) => [name, version, kind, requires.join('|')]),
    [
      ['egg', '3', 'egg', ''],
      ['foo', '1.0', 'dist-info', 'bar>1|baz; extra == "x"'],
      ['link', '', 'egg-link', ''],
      ['old-one', '3', 'egg-info', 'bar|baz ; extra == "x"'],
      ['single', '3', 'egg-info', ''],
      ['zipped', '2', 'egg', ''],
    ],
  );
  const prefix = await readFacts(memoryTree(wheelFiles({ name: 'foo', directory: 'lib/python3.11/site-packages/' })));
  assert.deepEqual(
    prefix.map(({ path }) => path),
    ['lib/python3.11/site-packages/foo-1.0.dist-info'],
  );
});

test('an upgrade in a tree', async () => {
  const x = wheelFiles({ name: 'x', files: { 'x.py': '' }, requires: ['y<2'] });
  const y = (version: string) => wheelFiles({ name: 'y', version, files: { 'y.py': '' } });
  assert.deepEqual(await saidOf({ ...x, ...y('1.0') }, { ...x, ...y('2.0') }), [
    'error dependencies: x 1.0 needs y<2, but y 2.0 is installed',
  ]);
  assert.deepEqual(await saidOf({ ...x, ...y('1.0') }, { ...x, ...y('1.5') }), []);
  assert.deepEqual(await saidOf({}, x, { installedElsewhere: [{ name: 'y', version: '1' }] }), []);
  // Nothing that is installed was touched.
  assert.deepEqual(await saidOf({ ...x }, { ...x, 'new.py': '' }), []);
});
