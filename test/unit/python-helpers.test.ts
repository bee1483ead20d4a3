/** The helpers that other tests trust: wheels that pip installs, environments, and a listing that misses nothing. */
import assert from 'node:assert/strict';
import {
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { writeSdist } from '../helpers/sdist.js';
import { diffTrees, hashListing, listTree } from '../helpers/tree-hash.js';
import { makeVenv, type Venv } from '../helpers/venv.js';
import { buildWheel } from '../helpers/wheel.js';

const folder = realpathSync(mkdtempSync(join(tmpdir(), 'siteswap-helpers-')));
after(() => rmSync(folder, { recursive: true }));
const dir = join(folder, 'wheels');

async function succeed(venv: Venv, program: string, args: string[], cwd?: string): Promise<string> {
  const { code, stdout, stderr } = await venv.run(program, args, cwd === undefined ? {} : { cwd });
  assert.equal(code, 0, `${program} ${args.join(' ')}\n${stdout}${stderr}`);
  return stdout;
}

test('a wheel installs, upgrades, is consistent and leaves nothing', async () => {
  const venv = makeVenv(join(folder, 'a'));
  const before = listTree(venv.sitePackages, { mtimes: false, ignore: (path) => path.includes('__pycache__') });
  for (const version of ['1.0', '2.0']) {
    const files = { 'demo_x/__init__.py': `A = '${version}'\ndef main(): print(A)\n`, 'demo_x/a,b.txt': 'x' };
    const wheel = buildWheel({ name: 'Demo.X', version, files, entryPoints: { demo: 'demo_x:main' }, dir });
    await succeed(venv, 'pip', ['install', wheel]);
    assert.equal(await succeed(venv, 'demo', []), `${version}\n`);
  }
  const version = "import importlib.metadata as m; print(m.version('demo-x'))";
  assert.equal(await succeed(venv, 'python', ['-c', version]), '2.0\n');
  await succeed(venv, 'pip', ['check']);
  assert.match(await succeed(venv, 'pip', ['--version']), new RegExp(` from ${venv.sitePackages}/pip `));
  await succeed(venv, 'pip', ['uninstall', '-y', 'demo-x']);
  const now = listTree(venv.sitePackages, { mtimes: false, ignore: (path) => path.includes('__pycache__') });
  assert.deepEqual(diffTrees(before, now), []);
});

test('setup.py install', async (context) => {
  const venv = makeVenv(join(folder, 'b'));
  // Python 3.12 and later bring none along.
  if ((await venv.run('python', ['-c', 'import setuptools'])).code !== 0) return context.skip('no setuptools here');
  const files = { 'old_y/__init__.py': "B = '1'\n" };
  const root = writeSdist({ name: 'old_y', version: '1.5', files, dir: join(folder, 'src') });
  await succeed(venv, 'python', ['setup.py', 'install', '--single-version-externally-managed', '--record', 'r'], root);
  const code = "import old_y, importlib.metadata as m; print(old_y.__file__, m.version('old_y'))";
  const installed = await succeed(venv, 'python', ['-c', code]);
  assert.ok(installed.startsWith(venv.sitePackages) && installed.endsWith(' 1.5\n'), installed);
});

test('a listing shows every kind of difference', () => {
  const root = join(folder, 'tree');
  mkdirSync(join(root, 'd'), { recursive: true });
  writeFileSync(join(root, 'd/f'), 'one');
  writeFileSync(Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0xff, 0xfe])]), 'bytes');
  symlinkSync('d/f', join(root, 's'));
  const before = listTree(root);
  assert.deepEqual(diffTrees(before, listTree(root)), []);
  assert.equal(hashListing(before), hashListing(listTree(root)));
  assert.equal(before.size, 5);
  const changes: (() => void)[] = [
    () => writeFileSync(join(root, 'd/f'), 'two'),
    () => chmodSync(join(root, 'd/f'), 0o600),
    () => utimesSync(join(root, 'd/f'), 1, 1),
    () => linkSync(join(root, 'd/f'), join(root, 'd/g')),
    () => mkdirSync(join(root, 'e')),
    () => rmSync(join(root, 's')),
  ];
  let last = before;
  for (const change of changes) {
    change();
    const next = listTree(root);
    assert.notDeepEqual(diffTrees(last, next), [], change.toString());
    last = next;
  }
});
