import assert from 'node:assert/strict';
import { test } from 'node:test';
import { normalizeName, parseMetadata, parseMetadataName, parseNameAndVersion } from '../../src/python/dist-info.js';
import { parseCsv, parseRecord } from '../../src/python/record.js';

const NAMES: readonly (readonly [string, string, string, string] | readonly [string, null])[] = [
  ['foo-1.2.dist-info', 'dist-info', 'foo', '1.2'],
  ['foo_bar-1.2.post1+local.dist-info', 'dist-info', 'foo_bar', '1.2.post1+local'],
  ['Foo.Bar-1!2.0.DIST-INFO', 'dist-info', 'Foo.Bar', '1!2.0'],
  ['foo-1.2-py3.11.egg-info', 'egg-info', 'foo', '1.2'],
  ['foo-1.2-py3.11-linux-x86_64.egg-info', 'egg-info', 'foo', '1.2'],
  ['foo.egg-info', 'egg-info', 'foo', ''],
  ['foo-bar.egg-link', 'egg-link', 'foo-bar', ''],
  ['~oo-1.2.dist-info', null],
  ['-oo-1.2.dist-info', null],
  ['.dist-info', null],
  ['foo', null],
  ['foo.dist-info.bak', null],
  ['', null],
];

for (const [entry, kind, name, version] of NAMES) {
  test(`name of ${JSON.stringify(entry)}`, () => {
    assert.deepEqual(parseMetadataName(entry), kind === null ? null : { kind, name, version });
  });
}

test('PEP 503 names', () => {
  assert.equal(normalizeName('Foo__Bar.-baz'), 'foo-bar-baz');
});

test('core metadata', () => {
  const text =
    'Metadata-Version: 2.1\r\nName: Foo\r\nVersion:1.0\r\nClassifier: a\r\nClassifier: b\r\nLicense: x\r\n  y\r\n\r\nName: no\r\n';
  const fields = parseMetadata(text);
  assert.deepEqual(fields.get('classifier'), ['a', 'b']);
  assert.deepEqual(fields.get('license'), ['x\ny']);
  assert.deepEqual(fields.get('name'), ['Foo']);
  assert.deepEqual(parseNameAndVersion(text), { name: 'Foo', version: '1.0' });
  assert.deepEqual(parseNameAndVersion('\uFEFFName: a\nVersion: 1'), { name: 'a', version: '1' });
  for (const broken of ['', 'Name: x', '\nName: x\nVersion: 1', 'Name:\nVersion: 1', ':x', ' Name: x']) {
    assert.equal(parseNameAndVersion(broken), null);
  }
});

test('CSV with quoting', () => {
  assert.deepEqual(parseCsv('a,b,c\r\n"a,1","say ""hi""",""\n\n"two\nlines",,'), [
    ['a', 'b', 'c'],
    ['a,1', 'say "hi"', ''],
    ['two\nlines', '', ''],
  ]);
  assert.deepEqual(parseCsv(''), []);
});

test('RECORD', () => {
  const { rows, problems } = parseRecord(
    'foo/__init__.py,sha256=AAEC,3\n"foo/a,b.py",md5=_-8=,0\nfoo-1.dist-info/RECORD,,\nbad,nohash,1\nbad2,,x\n,,\na,b=c,1,2\n',
  );
  assert.deepEqual(rows, [
    { path: 'foo/__init__.py', hash: { algorithm: 'sha256', digest: Buffer.from([0, 1, 2]) }, sizeBytes: 3 },
    { path: 'foo/a,b.py', hash: { algorithm: 'md5', digest: Buffer.from([0xff, 0xef]) }, sizeBytes: 0 },
    { path: 'foo-1.dist-info/RECORD', hash: null, sizeBytes: null },
  ]);
  assert.equal(problems.length, 4);
});
