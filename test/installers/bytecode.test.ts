/**
 * Readers that only read: what they ask never enters JavaScript; the bytecode that they write is everybody's at once, and
 * makes no transaction.
 */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { mountedVenv, type MountedVenv } from '../helpers/mounted-venv.js';
import { diffTrees } from '../helpers/tree-hash.js';
import { PIP_INSTALL, versionedWheel } from '../helpers/versioned-package.js';
import { buildWheel } from '../helpers/wheel.js';

const TIMEOUT_MS = 10 * 60_000;

/** Imports every module below site-packages that can be imported at all, and reads every byte. */
const IMPORT_EVERYTHING = `
import importlib, importlib.metadata, os, pkgutil, sys, sysconfig
site = sysconfig.get_path('purelib')
imported = 0
for module in pkgutil.walk_packages([site], onerror=lambda name: None):
    if module.name.endswith('__main__'):
        continue
    try:
        importlib.import_module(module.name)
        imported += 1
    except BaseException:
        pass
read = 0
for folder, _, files in os.walk(site):
    for name in files:
        with open(os.path.join(folder, name), 'rb') as file:
            read += len(file.read())
print(imported, len(list(importlib.metadata.distributions())), read)
`;

async function committedViewEvents(mounted: MountedVenv): Promise<number> {
  return (await mounted.status()).counters.committedViewEvents;
}

test('an import of everything never enters JavaScript', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t, {
    prepare: async (venv, work) => {
      await venv.run('pip', [...PIP_INSTALL, versionedWheel(work, { version: '1.0.0', serial: 0 }, 50)]);
      await venv.run(venv.python, ['-m', 'compileall', '-q', venv.sitePackages]);
    },
  });
  const requests = async (): Promise<number> =>
    Object.values((await mounted.status()).counters.requests).reduce((sum, count) => sum + count, 0);
  assert.equal(await committedViewEvents(mounted), 0);
  const before = await requests();
  const [imported, distributions] = (await mounted.must(mounted.python, '-c', IMPORT_EVERYTHING))
    .split(' ')
    .map(Number);
  assert.ok(imported! > 300, `${imported} modules`);
  assert.equal(distributions, 3);
  const after = await requests();
  assert.ok(after - before > 1000, `${after - before} requests`);
  assert.equal(await committedViewEvents(mounted), 0);
  assert.deepEqual((await mounted.status()).transactions, []);
  t.diagnostic(`${imported} modules, ${after - before} requests, no event`);
  await mounted.unmount();
});

/** How the import of `module` came by its code: which bytecode files were read and which were written. */
async function bytecode(mounted: MountedVenv, module: string): Promise<{ matched: number; wrote: number }> {
  const { code, stderr } = await mounted.venv.run(mounted.python, ['-v', '-c', `import ${module}`]);
  assert.equal(code, 0, stderr);
  const lines = stderr.split('\n').filter((line) => /\/site-packages\/(pkg|other)\//.test(line));
  const count = (pattern: RegExp): number => lines.filter((line) => pattern.test(line)).length;
  return { matched: count(/\.pyc matches /), wrote: count(/^# (created|wrote) /) };
}

test(
  'bytecode that a reader writes is the next one’s, follows what did not change, and goes with what did',
  {
    timeout: TIMEOUT_MS,
  },
  async (t) => {
    const options = [...PIP_INSTALL, '--no-compile'];
    const mounted = await mountedVenv(t, {
      prepare: async (venv, work) => {
        const other = { 'other/__init__.py': 'from other import sub', 'other/sub.py': 'N = 1' };
        const wheels = [
          versionedWheel(work, { version: '1.0.0', serial: 0 }),
          buildWheel({ name: 'other', version: '1.0', files: other, dir: work }),
        ];
        await venv.run('pip', [...options, ...wheels]);
      },
    });
    const listed = await mounted.listing();
    assert.deepEqual(await bytecode(mounted, 'pkg, other'), { matched: 0, wrote: 4 });
    assert.deepEqual(await bytecode(mounted, 'pkg, other'), { matched: 4, wrote: 0 });
    const events = await committedViewEvents(mounted);
    assert.deepEqual(await bytecode(mounted, 'pkg, other'), { matched: 4, wrote: 0 });
    assert.equal(await committedViewEvents(mounted), events, 'reading it back is not JavaScript’s');
    const shown = await mounted.listing();
    const added = [...shown.keys()].filter((path) => !listed.has(path));
    assert.equal(added.length, 6, 'two __pycache__ and four files');
    for (const [path, line] of listed) assert.equal(shown.get(path), line);

    const { transactions, generation } = await mounted.status();
    assert.deepEqual([transactions, generation], [[], 0]);
    assert.equal((await mounted.log()).length, 1);

    await mounted.must('pip', ...options, versionedWheel(mounted.work, { version: '2.0.0', serial: 1 }));
    assert.deepEqual(await bytecode(mounted, 'other'), { matched: 2, wrote: 0 });
    assert.deepEqual(await bytecode(mounted, 'pkg'), { matched: 0, wrote: 2 });
    assert.deepEqual(await bytecode(mounted, 'pkg, other'), { matched: 4, wrote: 0 });

    // It is kept in the store.
    await mounted.unmount();
    await mounted.mount();
    assert.deepEqual(await bytecode(mounted, 'pkg, other'), { matched: 4, wrote: 0 });
    assert.equal((await mounted.status()).generation, 1);
    await mounted.unmount();
  },
);

test(
  'an installer meets the bytecode that readers wrote as on a plain directory, and takes none of it along',
  {
    timeout: TIMEOUT_MS,
  },
  async (t) => {
    const options = [...PIP_INSTALL, '--no-compile'];
    const mounted = await mountedVenv(t, {
      prepare: async (venv, work) => {
        await venv.run('pip', [...options, versionedWheel(work, { version: '1.0.0', serial: 0 })]);
        // A file that pip does not know of: it can't move the package away as a whole.
        writeFileSync(join(venv.sitePackages, 'pkg', 'notes.txt'), 'mine');
        for (const name of ['gone', 'kept', 'moved']) {
          mkdirSync(join(venv.sitePackages, name));
          for (const file of ['__init__.py', 'sub.py']) writeFileSync(join(venv.sitePackages, name, file), '');
        }
      },
    });
    const modules = 'pkg, gone.sub, kept.sub, moved.sub, six_like';
    await mounted.siteswap('run', mounted.site, '--', 'touch', join(mounted.site, 'six_like.py'));
    const imported = await mounted.venv.run(mounted.python, ['-c', `import ${modules}`]);
    assert.equal(imported.code, 0, imported.stderr);
    const before = await mounted.listing();
    assert.ok([...before.keys()].some((path) => /^gone\/.*sub.*\.pyc$/.test(path)));

    // Nothing of what a transaction does to it is seen by others, until it is committed.
    const rm = ['rm', '-r', ...['gone', 'pkg'].map((name) => join(mounted.site, name))];
    const dropped = await mounted.tryRun(['sh', '-c', `${rm.join(' ')} && exit 3`]);
    assert.deepEqual([dropped.code, dropped.stderr.includes('cannot')], [3, false], dropped.stderr);
    assert.deepEqual(diffTrees(before, await mounted.listing()), []);

    // Who changes something else first meets the package as a member: listed, or asked for by name.
    const listed = `: > '${mounted.site}/first' && ls -R '${mounted.site}/pkg' && rm -r '${mounted.site}/pkg' && exit 3`;
    const member = await mounted.venv.run('/bin/sh', ['-c', listed]);
    assert.deepEqual([member.code, member.stderr], [3, '']);
    assert.match(member.stdout, /\.pyc$/m);
    assert.deepEqual(diffTrees(before, await mounted.listing()), []);

    await mounted.must('/bin/rm', '-r', join(mounted.site, 'gone'));
    await mounted.must('/bin/mv', join(mounted.site, 'moved'), join(mounted.site, 'renamed'));
    await mounted.must(
      mounted.python,
      '-c',
      `import shutil; shutil.copytree('${mounted.site}/kept', '${mounted.site}/twin')`,
    );
    await mounted.must('pip', ...options, versionedWheel(mounted.work, { version: '2.0.0', serial: 1 }));
    const after = await mounted.listing();
    const cached = [...after.keys()].filter((path) => path.endsWith('.pyc') && !before.get(path));
    assert.deepEqual(
      cached.filter((path) => !path.startsWith('twin/')),
      [],
      'what was copied on purpose is there',
    );
    assert.ok(!after.has('gone') && after.has('renamed/sub.py') && after.has('pkg/notes.txt'));
    assert.equal([...after.keys()].filter((path) => /^pkg\/.*pyc$/.test(path)).length, 0);
    assert.equal(
      await mounted.must(mounted.python, '-c', 'import renamed.sub, kept.sub, pkg; print(pkg.A)'),
      '2.0.0\n',
    );
    await mounted.must('pip', 'uninstall', '--yes', '--quiet', 'pkg');
    assert.deepEqual(
      [...(await mounted.listing()).keys()].filter((path) => /^pkg(\/|$)/.test(path)),
      ['pkg', 'pkg/notes.txt'],
    );
    assert.deepEqual((await mounted.status()).transactions, []);
    await mounted.unmount();
  },
);
