import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CHECK_NAMES } from '../../src/python/checks/check.js';
import { verify } from '../../src/python/verify.js';
import {
  checkInput,
  findingsOf,
  memoryTree,
  recordRow,
  saidOf,
  wheelFiles,
  without,
  type Files,
} from '../helpers/python-tree.js';

const FOO: Files = { 'foo/__init__.py': 'x = 1\n', 'foo/sub.py': 'y = 2\n' };
const INFO = 'foo-1.0.dist-info';
const foo = wheelFiles({ name: 'foo', files: FOO });
const METADATA = 'Metadata-Version: 2.1\nName: foo\nVersion: 1.0\n';

test('a clean install, upgrade and uninstall say nothing; every check is timed', async () => {
  const two = wheelFiles({ name: 'foo', version: '2.0', files: { 'foo/__init__.py': 'x = 2\n', 'foo/new.py': '' } });
  for (const [before, after] of [
    [{}, foo],
    [foo, two],
    [two, foo],
    [foo, {}],
    [foo, foo],
  ] as const) {
    assert.deepEqual(await saidOf(before, after), []);
  }
  const seen: string[] = [];
  const { checks, packages } = await verify(checkInput(foo, two), { onCheck: (name) => seen.push(name) });
  assert.deepEqual(seen, CHECK_NAMES);
  assert.deepEqual(
    checks.map(({ name }) => name),
    CHECK_NAMES,
  );
  assert.deepEqual(packages, [{ name: 'foo', from: '1.0', to: '2.0' }]);
});

test('in an environment’s prefix: the same, and scripts are in the tree', async () => {
  const directory = 'lib/python3.11/site-packages/';
  const rows = [recordRow('../../../bin/foo', '#!x\n')];
  const after = { ...wheelFiles({ name: 'foo', files: FOO, directory, rows }), 'bin/foo': '#!x\n', 'pyvenv.cfg': '' };
  assert.deepEqual(await saidOf({ 'pyvenv.cfg': '' }, after), []);
  const [said] = await saidOf({}, { ...after, 'bin/foo': '#!y\n' });
  assert.match(said ?? '', /^error record: 1 file is not what .*RECORD says: bin\/foo \(another sha256\)$/);
});

test('what a package brings along inside is not installed', async () => {
  const inside = {
    'foo/_vendor/bar-1.dist-info/METADATA': 'Name: bar\n',
    'foo/_vendor/bar-1.dist-info/RECORD': 'x,,\n',
  };
  const after = wheelFiles({ name: 'foo', files: { ...FOO, ...inside } });
  const { findings, packages } = await verify(checkInput({}, after));
  assert.deepEqual(findings, []);
  assert.deepEqual(packages, [{ name: 'foo', from: null, to: '1.0' }]);
});

test('record: wrong hash, wrong size, missing', async () => {
  assert.deepEqual(await saidOf({}, { ...foo, 'foo/sub.py': 'y = 3\n' }), [
    `error record: 1 file is not what ${INFO}/RECORD says: foo/sub.py (another sha256)`,
  ]);
  assert.deepEqual(await saidOf({}, { ...foo, 'foo/sub.py': 'y', 'foo/__init__.py': '' }), [
    `error record: 2 files are not what ${INFO}/RECORD says: foo/__init__.py (0 bytes, not 6), foo/sub.py (1 bytes, not 6)`,
  ]);
  assert.deepEqual(await saidOf({}, without(foo, 'foo/sub.py')), [
    `error record: ${INFO}/RECORD lists 1 file that is missing: foo/sub.py`,
  ]);
});

test('record: no RECORD, or one that is cut short or malformed', async () => {
  assert.deepEqual(await saidOf({}, without(foo, `${INFO}/RECORD`)), [`error record: ${INFO} has no RECORD`]);
  const short = { ...foo, [`${INFO}/RECORD`]: recordRow('foo/__init__.py', FOO['foo/__init__.py']!) };
  assert.deepEqual(await saidOf({}, short), [
    'warning unowned: 1 file in foo (foo/sub.py): added, but no distribution lists it',
    `warning record: ${INFO}/RECORD does not list METADATA: cut short, or not an installer's`,
  ]);
  const [said] = await saidOf({}, { ...foo, [`${INFO}/RECORD`]: `${String(foo[`${INFO}/RECORD`])}a,b,c,d\n` });
  assert.equal(said, `warning record: ${INFO}/RECORD: row 6 is not path,hash,size`);
});

test('record: other hashes, no hashes, bytecode, files elsewhere', async () => {
  const rows = ['foo/sub.py,md5=AAAA,6', 'foo/__pycache__/sub.cpython-311.pyc,,', '../../../bin/foo,,', '/etc/foo,,'];
  const after = { ...wheelFiles({ name: 'foo', files: { 'foo/__init__.py': '' }, rows }), 'foo/sub.py': '' };
  const unknown = `warning record: ${INFO}/RECORD has hashes that can't be checked: md5`;
  assert.deepEqual(await saidOf({}, after), [unknown]);
  const asked: string[] = [];
  const existsOutside = (path: string) => asked.push(path) > 1;
  assert.deepEqual(await saidOf({}, after, { existsOutside }), [
    unknown,
    `warning record: ${INFO}/RECORD lists 1 file outside of the tree that is missing: ../../../bin/foo`,
  ]);
  assert.deepEqual(asked, ['../../../bin/foo', '/etc/foo']);
  // pip's --target.
  assert.deepEqual(await saidOf({}, { ...after, 'bin/foo': '' }, { existsOutside: (path) => path === '/etc/foo' }), [
    'warning unowned: 1 file in bin (bin/foo): added, but no distribution lists it',
    unknown,
  ]);
});

test('record: old defects are not looked at', async () => {
  const broken = { ...without(foo, 'foo/sub.py'), 'foo/__init__.py': 'edited' };
  const requested = { ...broken, [`${INFO}/REQUESTED`]: '' };
  assert.deepEqual(await saidOf(broken, requested), []);
  assert.deepEqual(await saidOf(broken, { ...broken, 'foo/other.py': '' }), []);
  assert.equal((await saidOf(foo, { ...requested, 'foo/sub.py': FOO['foo/sub.py']! })).length, 1);
  const touched = checkInput({}, broken).changes.map(({ path }) => ({ path, kind: 'attributes' as const }));
  assert.deepEqual(await saidOf(broken, broken, { changes: touched }), []);
});

test('record: what conda and Debian install is not what RECORD says, or has none', async () => {
  const conda = wheelFiles({ name: 'foo', files: FOO, installer: 'conda' });
  assert.deepEqual(await saidOf({}, { ...conda, 'foo/__init__.py': 'prefix = "/opt/x"' }), []);
  const [said] = await saidOf({}, without(conda, 'foo/sub.py'));
  assert.match(said ?? '', /^warning record: .* missing: foo\/sub.py$/);
  const debian = wheelFiles({ name: 'foo', files: FOO, installer: 'debian' });
  assert.deepEqual(await saidOf({}, without(debian, `${INFO}/RECORD`)), []);
  // Debian's older packages: the wheel's RECORD, and nobody says who wrote it; or a wheel that was unpacked by hand.
  const record = String(foo[`${INFO}/RECORD`]).replace(/.*INSTALLER.*\n/, '');
  const nobody = { ...without(foo, `${INFO}/INSTALLER`), [`${INFO}/RECORD`]: record, 'foo/more.py': '' };
  assert.deepEqual(await saidOf({}, nobody), []);
  const [changed] = await saidOf({}, { ...nobody, 'foo/sub.py': '' });
  assert.match(changed ?? '', /^warning record: 1 file is not what .* foo\/sub.py \(0 bytes, not 6\)$/);
  const both = { [`${INFO}/METADATA`]: METADATA, 'foo.egg-info/PKG-INFO': METADATA };
  const [twice] = await saidOf({}, { ...nobody, ...both });
  assert.match(twice ?? '', /^warning duplicate-metadata: foo is installed twice/);
});

test('record: pip, uv and others; editable installs', async () => {
  for (const installer of ['pip', 'uv', 'poetry 1.8.3', 'hatch']) {
    const files = { '__editable__.foo-1.0.pth': 'import __editable___foo_finder\n', '__editable___foo_finder.py': '' };
    const after = wheelFiles({ name: 'foo', files, installer });
    after[`${INFO}/direct_url.json`] = '{"url": "file:///src", "dir_info": {"editable": true}}';
    after[`${INFO}/REQUESTED`] = '';
    assert.deepEqual(await saidOf({}, after), [], installer);
  }
});

test('links to a cache outside of the tree (uv --link-mode=symlink) are taken as they are', async () => {
  const real = memoryTree(foo);
  const linked = {
    list: (path: string) =>
      real.list(path)?.map(({ name, type }) => ({ name, type: type === 'file' ? 'symlink' : type })) ?? null,
    read: () => Promise.resolve(null),
  };
  const input = checkInput({}, foo);
  assert.deepEqual((await verify({ ...input, after: linked, hash: () => Promise.resolve(null) })).findings, []);
});

test('metadata: missing, or lacking its fields', async () => {
  const file = `${INFO}/METADATA`;
  const as = async (text: string): Promise<string[]> => saidOf({}, { [file]: text, [`${INFO}/RECORD`]: `${file},,\n` });
  assert.deepEqual(await saidOf({}, without(foo, file)), [
    `error metadata: ${INFO} has no METADATA`,
    `error record: ${INFO}/RECORD lists 1 file that is missing: ${file}`,
  ]);
  assert.deepEqual(await as(''), [`error metadata: ${file} has no Name and no Version`]);
  assert.deepEqual(await as('Metadata-Version: 2.1\nName: foo\n\nVersion: 1.0'), [
    `error metadata: ${file} has no Version`,
  ]);
  assert.deepEqual(await as('Name: foo\nVersion: 1.0'), [`warning metadata: ${file} has no Metadata-Version`]);
  assert.deepEqual(await as(METADATA.replace('1.0', 'soon')), [
    `warning metadata: ${file} has the version "soon", which is none`,
  ]);
  assert.deepEqual(await as(METADATA.replace('foo', 'bar')), [
    `warning metadata: ${file} has another name than its directory: "bar"`,
  ]);
  assert.deepEqual(await as(METADATA), []);
  assert.deepEqual(await saidOf({}, { 'old.egg-info': '' }), [
    'error metadata: old.egg-info has no Name and no Version',
  ]);
  assert.deepEqual(await saidOf({}, { 'old-1.0.egg-info': METADATA.replace('foo', 'old') }), []);
  assert.deepEqual(await saidOf({}, { 'bar.egg-info/SOURCES.txt': '' }), [
    'error metadata: bar.egg-info has no PKG-INFO',
  ]);
});

test('duplicate-metadata: a second directory for one project', async () => {
  const other = wheelFiles({ name: 'foo', version: '2.0', files: FOO });
  const both = { ...foo, ...other };
  const twice = `error duplicate-metadata: foo is installed twice: ${INFO} and foo-2.0.dist-info`;
  assert.deepEqual(await saidOf(foo, both), [twice]);
  // It was so before.
  assert.deepEqual(await saidOf(both, { ...both, 'foo-2.0.dist-info/REQUESTED': '' }), []);
  assert.deepEqual(await saidOf(both, foo), []);
  assert.deepEqual(await saidOf(foo, { ...foo, 'Foo.egg-link': '/src/foo\n.\n' }), [
    `warning duplicate-metadata: foo is installed twice: Foo.egg-link and ${INFO}`,
  ]);
});

test('orphan-metadata: metadata without any of its files, and what an uninstall left', async () => {
  assert.deepEqual(await saidOf({}, without(foo, ...Object.keys(FOO))), [
    `error orphan-metadata: ${INFO} is there, but of the 2 files that it lists, none: foo/__init__.py, foo/sub.py`,
  ]);
  assert.deepEqual(await saidOf({}, wheelFiles({ name: 'only-metadata' })), []);
  const mine = { ...foo, [`${INFO}/notes.txt`]: '' };
  assert.deepEqual(await saidOf(mine, { [`${INFO}/notes.txt`]: '' }), [
    `warning orphan-metadata: ${INFO} is what was left of a distribution: ${INFO}/notes.txt`,
  ]);
});

test('unowned: files that no distribution lists', async () => {
  const cache = 'foo/__pycache__/sub.cpython-311.pyc';
  const pyc = Buffer.from('a70d0d0a00000000000000000000000000e3', 'hex');
  assert.deepEqual(await saidOf({}, { ...foo, [cache]: pyc }), []);
  assert.deepEqual(await saidOf({}, { ...foo, 'foo/extra.py': '', 'lone.py': '' }), [
    'warning unowned: 1 file in foo (foo/extra.py): added, but no distribution lists it',
    'warning unowned: lone.py: added, but no distribution lists it',
  ]);
  assert.deepEqual(await saidOf({}, { ...foo, 'easy-install.pth': './foo\n' }), []);
  // Another's, or from before; nothing to say where the installer leaves no list, nor about `cp`.
  const bar = wheelFiles({ name: 'bar', files: { 'bar.py': '' } });
  assert.deepEqual(await saidOf(bar, { ...foo, ...bar }), []);
  assert.deepEqual(await saidOf({ 'lone.py': '' }, { ...foo, 'lone.py': '' }), []);
  assert.deepEqual(await saidOf(foo, { ...foo, 'foo/extra.py': '' }), []);
  assert.deepEqual(await saidOf({}, { 'old-1.0.egg-info': METADATA.replace('foo', 'old'), 'old.py': '' }), []);
});

test('conflicts: one file, two distributions', async () => {
  const bar = wheelFiles({ name: 'bar', files: { 'foo/__init__.py': 'x = 9\n', 'bar.py': '' } });
  const both = { ...foo, ...bar };
  assert.deepEqual(await saidOf(foo, both), [
    `error conflicts: foo/__init__.py: bar-1.0.dist-info and ${INFO} both have it, with different contents`,
  ]);
  // So before, and after an upgrade too; the same bytes; bytes of nothing that is imported.
  assert.deepEqual(await saidOf(both, { ...both, 'bar-1.0.dist-info/REQUESTED': '' }), []);
  const newer = wheelFiles({ name: 'bar', version: '2', files: { 'foo/__init__.py': 'x = 10\n', 'bar.py': '' } });
  assert.deepEqual(await saidOf(both, { ...foo, ...newer }), []);
  const namespace = wheelFiles({ name: 'bar', files: { 'foo/__init__.py': FOO['foo/__init__.py']! } });
  assert.deepEqual(await saidOf(foo, { ...foo, ...namespace }), []);
  const [one, other] = ['one', 'other'].map((name) => wheelFiles({ name, files: { LICENSE: name } }));
  assert.deepEqual(await saidOf(one!, { ...one, ...other }), [
    'warning conflicts: LICENSE: one-1.0.dist-info and other-1.0.dist-info both have it, with different contents',
  ]);
  // An uninstall takes what another has too.
  assert.deepEqual(await saidOf({ ...foo, ...namespace }, without(foo, 'foo/__init__.py')), [
    `warning conflicts: ${INFO} has lost 1 file with this: foo/__init__.py`,
  ]);
});

test('pth: lines that point nowhere', async () => {
  const lines = '# comment\n\nimport os; print(1)\nhere\n.\n../outside\n/opt/outside\nnowhere/at/all\n';
  const after = { 'x.pth': lines, 'here/a.py': '' };
  assert.deepEqual(await saidOf({}, after), ['warning pth: x.pth points to nowhere/at/all, where there is nothing']);
  const existsOutside = (path: string) => path === '../outside';
  assert.deepEqual(await saidOf({}, after, { existsOutside }), [
    'warning pth: x.pth points to /opt/outside, nowhere/at/all, where there is nothing',
  ]);
  // A line of before, a file that nobody reads.
  assert.deepEqual(await saidOf({ 'x.pth': 'nowhere\n' }, { 'x.pth': 'nowhere\nhere\n', 'here/a.py': '' }), []);
  assert.deepEqual(await saidOf({}, { 'pkg/x.pth': 'nowhere\n' }), []);
  assert.deepEqual(await saidOf({ 'x.pth': 'nowhere\n' }, {}), []);
});

test('egg-info: installed-files.txt, top_level.txt', async () => {
  const info = 'foo-1.0-py3.11.egg-info';
  const sources: Files = { [`${info}/SOURCES.txt`]: 'setup.py\nfoo/a.py\n', [`${info}/top_level.txt`]: 'foo\n_foo\n' };
  const base = { [`${info}/PKG-INFO`]: METADATA, ...sources, 'foo/a.py': '', '_foo.cpython-311.so': '' };
  const list = {
    [`${info}/installed-files.txt`]: '../foo/a.py\n../foo/__pycache__/a.pyc\n../_foo.cpython-311.so\nPKG-INFO\n',
  };
  assert.deepEqual(await saidOf({}, base), []);
  assert.deepEqual(await saidOf({}, { ...base, ...list }), []);
  assert.deepEqual(await saidOf({}, { ...without(base, 'foo/a.py'), ...list }), [
    `error egg-info: ${info}/installed-files.txt lists 1 file that is missing: foo/a.py`,
  ]);
  assert.deepEqual(await saidOf({}, without(base, '_foo.cpython-311.so')), [
    `warning egg-info: ${info} speaks of modules that are not there: _foo`,
  ]);
  assert.deepEqual(await saidOf({}, without(base, '_foo.cpython-311.so', `${info}/SOURCES.txt`)), []);
  assert.deepEqual(await saidOf({}, { ...without(base, 'foo/a.py', '_foo.cpython-311.so'), ...list }), [
    `error orphan-metadata: ${info} is there, but of the 2 files that it lists, none: foo/a.py, _foo.cpython-311.so`,
  ]);
});

test('egg-info: eggs and egg-links', async () => {
  const egg = 'foo-1.0-py3.11.egg';
  const easy = { 'easy-install.pth': `./${egg}\n` };
  assert.deepEqual(await saidOf({}, { [`${egg}/EGG-INFO/PKG-INFO`]: METADATA, [`${egg}/foo.py`]: '', ...easy }), []);
  assert.deepEqual(await saidOf({}, { [`${egg}/foo.py`]: '', ...easy }), [
    `error egg-info: ${egg} has no EGG-INFO/PKG-INFO`,
  ]);
  assert.deepEqual(await saidOf({}, { [egg]: 'PK\x03\x04', ...easy }), []);
  assert.deepEqual(await saidOf({}, { [egg]: 'half', ...easy }), [`error egg-info: ${egg} is no zip file`]);
  const link = { 'foo.egg-link': '/src/foo\n.', 'easy-install.pth': '/src/foo\n' };
  assert.deepEqual(await saidOf({}, link, { existsOutside: () => true }), []);
  assert.deepEqual(await saidOf({}, link, { existsOutside: () => false }), [
    'warning pth: easy-install.pth points to /src/foo, where there is nothing',
    'warning egg-info: foo.egg-link links to /src/foo, where there is nothing',
  ]);
  assert.deepEqual(await saidOf({}, { 'foo.egg-link': '' }), [
    'warning egg-info: foo.egg-link is empty: it links to no project',
  ]);
});

test('cruft: stashes, temporary names, bytecode that was not written', async () => {
  const good = Buffer.from('a70d0d0a00000000000000000000000000e3', 'hex');
  const after: Files = {
    '~oo/a.py': '',
    '~oo-1.0.dist-info/METADATA': METADATA,
    'foo/b.tmp': '',
    'foo/__pycache__/sub.cpython-311.pyc.140012': good,
    'foo/__pycache__/sub.cpython-311.pyc': '',
    'foo/__pycache__/__init__.cpython-311.pyc': 'text',
    'foo/old.pyc': good.subarray(0, 12),
    'foo/good.pyc': good,
  };
  const said = await saidOf(foo, { ...foo, ...after });
  assert.deepEqual(said.sort(), [
    'error cruft: ~oo-1.0.dist-info is half of a distribution that pip was replacing',
    'warning cruft: foo/__pycache__/__init__.cpython-311.pyc is no bytecode',
    'warning cruft: foo/__pycache__/sub.cpython-311.pyc is empty: bytecode that was not written',
    'warning cruft: foo/__pycache__/sub.cpython-311.pyc.140012 is a left-over',
    'warning cruft: foo/b.tmp is a left-over',
    'warning cruft: foo/old.pyc is cut short',
    'warning cruft: ~oo is a left-over',
  ]);
  assert.deepEqual(await saidOf({ ...foo, ...after }, foo), []);
  assert.deepEqual(await saidOf(after, { ...foo, ...after }), []);
  assert.deepEqual(await saidOf({}, wheelFiles({ name: 'foo', files: { 'foo/data.tmp': 'x' } })), []);
});

test('paths are latin1, messages are text without what a terminal would obey', async () => {
  const name = Buffer.from('foo/é\x1b.py').toString('latin1');
  const [finding] = await findingsOf(
    {},
    without(wheelFiles({ name: 'foo', files: { ...FOO, 'foo/é\x1b.py': '' } }), 'foo/é\x1b.py'),
  );
  assert.equal(finding?.path, name);
  assert.match(finding?.message ?? '', /missing: foo\/é\?\.py$/);
});

test('a tree of another kind: nothing to list at all', async () => {
  const empty = { list: () => null, read: () => Promise.resolve(null) };
  const input = { ...checkInput({}, foo), before: empty };
  assert.deepEqual((await verify(input)).findings, []);
  assert.deepEqual((await verify({ ...input, before: memoryTree(foo), after: empty })).findings, []);
});
