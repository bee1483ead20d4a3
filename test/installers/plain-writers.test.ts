/**
 * Programs that are no installers by their name: each of them is a transaction too, committed when it has exited or been
 * quiet; and uv, where it can be had.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { mountedVenv, until, writeScript, type MountedVenv } from '../helpers/mounted-venv.js';
import { installFromIndex } from '../helpers/package-index.js';
import { diffTrees } from '../helpers/tree-hash.js';
import { versionedWheel } from '../helpers/versioned-package.js';

const TIMEOUT_MS = 10 * 60_000;
const MODULES = 40;

/** A package to be copied, as a directory and as an archive. */
function source(mounted: MountedVenv, name: string): { folder: string; archive: string } {
  const folder = join(mounted.work, 'source', name);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, '__init__.py'), `from ${name} import part_${MODULES - 1} as last\nN = last.N\n`);
  for (let i = 0; i < MODULES; i++) writeFileSync(join(folder, `part_${i}.py`), `N = ${i}\n`);
  const archive = join(mounted.work, `${name}.tar`);
  execFileSync('tar', ['-cf', archive, '-C', join(mounted.work, 'source'), name]);
  return { folder, archive };
}

/** As rsync does it: into a temporary name, its times, its mode, then over the old one. */
const LIKE_RSYNC = `
import os, shutil, sys
source, target = sys.argv[1:]
os.makedirs(target, exist_ok=True)
for name in sorted(os.listdir(source)):
    temporary = f'{target}/.{name}.x7Gh2k'
    shutil.copyfile(f'{source}/{name}', temporary)
    shutil.copystat(f'{source}/{name}', temporary)
    os.rename(temporary, f'{target}/{name}')
`;

test(
  'cp, tar and the like are committed when they have exited: the next program sees it all',
  {
    timeout: TIMEOUT_MS,
  },
  async (t) => {
    const mounted = await mountedVenv(t);
    const like = writeScript(mounted, 'copy.py', LIKE_RSYNC);
    const writers: Record<string, (from: ReturnType<typeof source>) => [string, ...string[]]> = {
      by_cp: ({ folder }) => ['/bin/cp', '-r', folder, mounted.site],
      by_cp_a: ({ folder }) => ['/bin/cp', '-a', folder, `${mounted.site}/`],
      by_tar: ({ archive }) => ['/bin/tar', '-xf', archive, '-C', mounted.site],
      by_rsync: ({ folder }) => [mounted.python, like, folder, join(mounted.site, 'by_rsync')],
    };
    for (const [round, again] of [
      ['new', false],
      ['over what is there', true],
    ] as const) {
      for (const [name, command] of Object.entries(writers)) {
        const { generation } = await mounted.status();
        await mounted.must(...command(source(mounted, name)));
        const seen = await mounted.must(mounted.python, '-c', `import ${name}; print(${name}.N)`);
        assert.equal(seen, `${MODULES - 1}\n`, `${name}, ${round}${mounted.serverLog()}`);
        // Over what is there, nothing need change: `cp -a` of the same files does.
        if (!again) assert.equal((await mounted.status()).generation, generation + 1, name);
      }
    }
    await mounted.must(mounted.python, '-c', 'import by_cp, by_cp_a, by_tar, by_rsync');
    await mounted.unmount();
  },
);

/** The first change of a program that has the file open already: the kernel can't walk to it again. */
const BY_DESCRIPTOR = `
import os, sys
path, what = sys.argv[1:]
before = os.stat(path)
file = os.open(path, os.O_RDONLY)
if what == 'utime': os.utime(file, ns=(11, 22))
if what == 'chmod': os.fchmod(file, 0o640)
if what == 'xattr': os.setxattr(file, 'user.note', b'new')
if what == 'path': os.utime(path, ns=(11, 22))
seen = os.stat(path)
assert (seen.st_mtime_ns == 22) == (what in ('utime', 'path')), seen
assert (seen.st_mode & 0o777 == 0o640) == (what == 'chmod'), seen
assert ('user.note' in os.listxattr(path)) == (what == 'xattr')
`;

test('attributes by descriptor, as the first change of a program', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t, {
    prepare: (venv) => {
      for (const name of ['touch', 'utime', 'chmod', 'xattr', 'path']) {
        writeFileSync(join(venv.sitePackages, `by_${name}.py`), 'N = 1\n', { mode: 0o644 });
      }
      return Promise.resolve();
    },
  });
  const reader = await mounted.must(mounted.python, '-c', 'import by_touch; print(by_touch.N)');
  assert.equal(reader, '1\n');
  const stat = async (name: string): Promise<string> =>
    (await mounted.must('/usr/bin/stat', '-c', '%a %Y', join(mounted.site, `by_${name}.py`))).trim();
  const { generation } = await mounted.status();
  const begun = Math.floor(Date.now() / 1000);
  await mounted.must('/usr/bin/touch', join(mounted.site, 'by_touch.py'));
  await mounted.settle();
  const [, touched] = (await stat('touch')).split(' ');
  assert.ok(Number(touched) >= begun, touched);
  const program = writeScript(mounted, 'by-descriptor.py', BY_DESCRIPTOR);
  for (const what of ['utime', 'chmod', 'xattr', 'path']) {
    await mounted.must(mounted.python, '-I', program, join(mounted.site, `by_${what}.py`), what);
  }
  await mounted.settle();
  assert.equal(await stat('utime'), '644 0');
  assert.equal((await stat('chmod')).split(' ')[0], '640');
  assert.equal(await stat('path'), '644 0');
  const noted = `import os; print(os.getxattr(${JSON.stringify(join(mounted.site, 'by_xattr.py'))}, 'user.note'))`;
  assert.equal(await mounted.must(mounted.python, '-I', '-c', noted), "b'new'\n");
  assert.equal((await mounted.status()).generation, generation + 5);
  await mounted.unmount();
});

test('a copy that fails, or is killed, changes nothing', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t);
  const before = await mounted.listing();
  const { folder } = source(mounted, 'half');
  const failed = await mounted.venv.run('/bin/cp', ['-r', folder, join(mounted.work, 'missing'), mounted.site]);
  assert.equal(failed.code, 1);
  assert.deepEqual(diffTrees(before, await mounted.listing()), []);
  // The shell writes itself, so what its children do is part of that.
  const script = `: > '${mounted.site}/first'; cp -r '${folder}' '${mounted.site}/'; touch '${mounted.site}/mine'; kill -9 $$`;
  assert.equal((await mounted.venv.run('/bin/sh', ['-c', script])).signal, 'SIGKILL');
  assert.deepEqual(diffTrees(before, await mounted.listing()), []);
  await mounted.unmount();
});

test('a shell that lives on: committed when it has been quiet for two seconds', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t);
  const shell = mounted.start('/bin/sh', []);
  shell.stdout!.setEncoding('utf8');
  const say = (line: string): Promise<string> => {
    const answer = new Promise<string>((resolve) => shell.stdout!.once('data', resolve));
    shell.stdin!.write(`${line}; echo done\n`);
    return answer;
  };
  for (const round of [1, 2]) {
    const begun = Date.now();
    assert.equal(await say(`echo 'N = ${round}' > '${mounted.site}/noted.py'`), 'done\n');
    assert.equal((await mounted.status()).transactions[0]?.state, 'open');
    assert.equal(await say(`cat '${mounted.site}/noted.py' >/dev/null`), 'done\n');
    await mounted.settle();
    assert.ok(Date.now() - begun >= 2_000, 'it was not quiet yet');
    const seen = await mounted.must(mounted.python, '-c', 'import noted; print(noted.N)');
    assert.equal(seen, `${round}\n`, mounted.serverLog());
    assert.equal((await mounted.status()).generation, round);
  }
  shell.stdin!.end('exit\n');
  await until('the shell has ended', () => shell.exitCode !== null);
  await mounted.unmount();
});

test('uv', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t);
  const uv = await installFromIndex(mounted.work, 'uv');
  if (uv === null) return t.skip('skipped: no package index');
  const before = await mounted.listing();
  const env = { UV_CACHE_DIR: join(mounted.work, 'cache'), UV_OFFLINE: '1', UV_NO_CONFIG: '1' };
  const run = (...args: string[]) =>
    mounted.venv.run(join(uv, 'bin/uv'), ['pip', ...args, '--python', mounted.python], { env });
  const show = "import pkg.lazy, importlib.metadata as m; print(pkg.A, pkg.lazy.C, m.version('pkg'))";
  for (const serial of [1, 2, 3]) {
    const version = `${serial}.0.0`;
    const installed = await run('install', '--no-index', versionedWheel(mounted.work, { version, serial }, MODULES));
    assert.equal(installed.code, 0, installed.stderr);
    const seen = await mounted.must(mounted.python, '-c', show);
    assert.equal(seen, `${version} ${version} ${version}\n`, mounted.serverLog());
    assert.equal((await mounted.status()).generation, serial);
  }
  const missing = await run('install', '--no-index', 'there-is-no-such-package');
  assert.notEqual(missing.code, 0);
  const removed = await run('uninstall', 'pkg');
  assert.equal(removed.code, 0, removed.stderr);
  const left = diffTrees(before, await mounted.listing()).filter((line) => !line.includes(' . '));
  // Directory times apart, all is as it was.
  assert.deepEqual(left, []);
  await mounted.unmount();
});
