/**
 * Python processes that were running before a commit: what is loaded and what is imported later always fit together, and
 * what somebody's own child has installed can be imported at once, without `invalidate_caches()`.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mountedVenv, type MountedVenv } from '../helpers/mounted-venv.js';
import { LivePython, PIP_INSTALL, versionedWheel } from '../helpers/versioned-package.js';

const TIMEOUT_MS = 10 * 60_000;

function wheel(mounted: MountedVenv, version: string, serial: number): string {
  return versionedWheel(mounted.work, { version, serial });
}

async function install(mounted: MountedVenv, version: string, serial: number): Promise<void> {
  await mounted.must('pip', ...PIP_INSTALL, wheel(mounted, version, serial));
}

test(
  'a process that could not import a package can when its own child has installed it',
  {
    timeout: TIMEOUT_MS,
  },
  async (t) => {
    const mounted = await mountedVenv(t);
    const notebook = new LivePython(mounted);
    t.after(() => notebook.end());
    for (const _ of [1, 2, 3]) assert.match(await notebook.run('import pkg'), /ModuleNotFoundError/);
    assert.match(await notebook.run("import importlib.metadata as m; m.version('pkg')"), /PackageNotFoundError/);
    const pip = [mounted.venv.pip, ...PIP_INSTALL, wheel(mounted, '1.0.0', 1)];
    assert.equal(await notebook.run(`import subprocess; subprocess.run(${JSON.stringify(pip)}, check=True)`), 'None');
    assert.equal(await notebook.run('import pkg, pkg.lazy'), 'None', mounted.serverLog());
    assert.equal(await notebook.value("(pkg.A, pkg.lazy.C, m.version('pkg'))"), "('1.0.0', '1.0.0', '1.0.0')");
  },
);

test('through a shell between them too, as notebooks do it', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t);
  const notebook = new LivePython(mounted);
  t.after(() => notebook.end());
  assert.match(await notebook.run('import pkg'), /ModuleNotFoundError/);
  const line = `cd / && pip ${PIP_INSTALL.join(' ')} ${wheel(mounted, '1.0.0', 1)}; true`;
  assert.equal(await notebook.run(`import os; os.system(${JSON.stringify(line)})`), 'None');
  assert.equal(await notebook.run('import pkg'), 'None', mounted.serverLog());
  // And again: the module is loaded, what comes lazily is the newest, as on a plain directory.
  const again = `pip ${PIP_INSTALL.join(' ')} ${wheel(mounted, '2.0.0', 2)}`;
  assert.equal(await notebook.run(`os.system(${JSON.stringify(again)})`), 'None');
  assert.equal(await notebook.run('import pkg.lazy'), 'None');
  assert.equal(await notebook.value('(pkg.A, pkg.lazy.C)'), "('1.0.0', '2.0.0')");
});

test('with --pin none any running process imports what anybody installed', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t, { mount: ['--pin', 'none'] });
  const live = new LivePython(mounted);
  t.after(() => live.end());
  for (const _ of [1, 2, 3]) assert.match(await live.run('import pkg'), /ModuleNotFoundError/);
  await install(mounted, '1.0.0', 1);
  // It is no ancestor of pip, and has looked before: nothing makes it wait for the commit.
  await mounted.settle();
  assert.equal(await live.run('import pkg'), 'None', mounted.serverLog());
  assert.equal(await live.value('pkg.A'), "'1.0.0'");
  assert.equal(await live.value("__import__('importlib.metadata').metadata.version('pkg')"), "'1.0.0'");
  // Many times in a row: each commit gives the root a time that no FileFinder has seen.
  for (let serial = 2; serial < 12; serial++) {
    const name = `other_${serial}`;
    assert.match(await live.run(`import ${name}`), /ModuleNotFoundError/);
    const plant = ['run', mounted.site, '--', 'sh', '-c', `echo N = ${serial} > ${mounted.site}/${name}.py`];
    await mounted.siteswap(...plant);
    assert.equal(await live.run(`import ${name}`), 'None', mounted.serverLog());
    assert.equal(await live.value(`${name}.N`), String(serial));
  }
  await mounted.settle();
});

for (const whole of [false, true]) {
  const what = 'a process keeps the generation that it began with, its forks too; new ones get the newest';
  test(`${what}${whole ? ', in a whole environment' : ''}`, { timeout: TIMEOUT_MS }, async (t) => {
    const mounted = await mountedVenv(t, {
      whole,
      prepare: async (venv, work) => {
        await venv.run('pip', [...PIP_INSTALL, versionedWheel(work, { version: '1.0.0', serial: 0 })]);
      },
    });
    const old = new LivePython(mounted);
    const forker = new LivePython(mounted);
    t.after(() => {
      old.end();
      forker.end();
    });
    for (const live of [old, forker]) assert.equal(await live.run('import pkg'), 'None');
    await install(mounted, '2.0.0', 1);

    const { pins } = await mounted.status();
    const pinned = (pid: number): number | undefined => pins.find((pin) => pin.pid === pid)?.generation;
    assert.deepEqual([pinned(old.pid), pinned(forker.pid)], [0, 0]);

    assert.equal(await old.run('import pkg.lazy, importlib.metadata as m'), 'None', mounted.serverLog());
    assert.equal(await old.value("(pkg.A, pkg.lazy.C, m.version('pkg'))"), "('1.0.0', '1.0.0', '1.0.0')");
    const inFork = `
import os
def in_fork(depth):
    read, write = os.pipe()
    if os.fork() == 0:
        if depth > 0:
            result = in_fork(depth - 1)
        else:
            import pkg.lazy, importlib.metadata
            names = [name for name in os.listdir(os.path.dirname(os.path.dirname(pkg.__file__))) if name.split('-')[0] == 'pkg']
            result = repr((pkg.lazy.C, importlib.metadata.version('pkg'), sorted(names)))
        os.write(write, result.encode())
        os._exit(0)
    os.close(write)
    result = os.read(read, 10000).decode()
    os.wait()
    return result
`;
    assert.equal(await forker.run(inFork), 'None');
    const expected = "\"('1.0.0', '1.0.0', ['pkg', 'pkg-1.0.0.dist-info'])\"";
    for (const depth of [0, 1]) assert.equal(await forker.value(`in_fork(${depth})`), expected);
    const fresh = "import pkg.lazy, importlib.metadata as m; print(pkg.A, pkg.lazy.C, m.version('pkg'))";
    assert.equal((await mounted.must(mounted.python, '-c', fresh)).trim(), '2.0.0 2.0.0 2.0.0');
    // A child that executes a program is a new process.
    const child = `__import__('subprocess').check_output([${JSON.stringify(mounted.python)}, '-c', ${JSON.stringify(fresh)}])`;
    assert.equal(await old.value(child), "b'2.0.0 2.0.0 2.0.0\\n'");
    old.end();
    forker.end();
    await mounted.unmount();
  });
}
