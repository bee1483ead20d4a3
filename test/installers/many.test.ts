/**
 * Many installers at once, unwrapped: each works on what it saw when it began, all of them end well, and what they did is
 * put together; where that can't be, the first one wins and the other is refused and kept.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ControlClient } from '../../src/daemon/control-client.js';
import { defaultStorePath } from '../../src/store/layout.js';
import { mountedVenv, until, writeScript, type MountedVenv } from '../helpers/mounted-venv.js';
import { writeSdist } from '../helpers/sdist.js';
import { PIP_INSTALL } from '../helpers/versioned-package.js';
import type { RunResult } from '../helpers/venv.js';
import { buildWheel, type WheelOptions } from '../helpers/wheel.js';

const TIMEOUT_MS = 10 * 60_000;
const EIGHT = Array.from({ length: 8 }, (_, i) => `many${i}`);

function wheel(mounted: MountedVenv, name: string, more: Partial<WheelOptions> = {}): string {
  const version = more.version ?? '1.0';
  const files = { [`${name}/__init__.py`]: `VERSION = '${version}'\n`, [`${name}/v${version[0]}.py`]: '' };
  return buildWheel({ name, version, files, dir: join(mounted.work, 'wheels'), ...more });
}

function install(mounted: MountedVenv, ...words: string[]): Promise<RunResult> {
  return mounted.venv.run('pip', [...PIP_INSTALL, ...words]);
}

/** Installs by pip, in a transaction that has begun before the function returns and goes on when told to. */
async function heldInstall(mounted: MountedVenv, mark: string, ...words: string[]): Promise<() => Promise<void>> {
  const held = join(mounted.site, `.held-${mark}`);
  const script = writeScript(
    mounted,
    'setup.py',
    `import os, subprocess, sys
os.mkdir(sys.argv[1]); os.rmdir(sys.argv[1])
print(flush=True); sys.stdin.read()
sys.exit(subprocess.call([sys.executable, '-m', 'pip', *sys.argv[2:]]))
`,
  );
  const child = mounted.start(mounted.python, [script, held, ...PIP_INSTALL, ...words]);
  const exited = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
  await new Promise((resolve) => child.stdout!.once('data', resolve));
  return async () => {
    child.stdin!.end();
    assert.equal(await exited, 0, mounted.serverLog());
    await until('it is decided', async () => {
      const { transactions } = await mounted.status();
      return !transactions.some(({ rootPid, state }) => rootPid === child.pid && state !== 'refused');
    });
  };
}

/** As a new process sees it. */
async function names(mounted: MountedVenv, pattern: RegExp): Promise<string[]> {
  const listing = await mounted.listing();
  return [...listing.keys()].filter((path) => pattern.test(path)).sort();
}

test('8 pip installs of disjoint packages', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t);
  const results = await Promise.all(EIGHT.map((name) => install(mounted, wheel(mounted, name))));
  assert.deepEqual(
    results.map(({ code }) => code),
    EIGHT.map(() => 0),
    JSON.stringify(results),
  );
  const check = `import importlib.metadata as m\nfor n in ${JSON.stringify(EIGHT)}: assert __import__(n).VERSION == m.version(n)`;
  await mounted.must(mounted.python, '-c', check);
  await mounted.settle();
  const { transactions, generation } = await mounted.status();
  assert.deepEqual([transactions, generation], [[], 8], mounted.serverLog());
  const commits = (await mounted.log()).slice(0, -1);
  assert.deepEqual(commits.flatMap(({ packages }) => packages.map(({ name }) => name)).sort(), EIGHT);
  assert.ok(commits.every(({ command, reason }) => reason === 'commit' && command.includes('install')));
  await mounted.unmount();
});

test('8 × setup.py develop: all lines of easy-install.pth', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t);
  const develop = (name: string): Promise<RunResult> => {
    const cwd = writeSdist({ name, version: '1.0', files: { [`${name}.py`]: 'N = 1' }, dir: mounted.work });
    return mounted.venv.run('python', ['-W', 'ignore', 'setup.py', 'develop', '--no-deps'], { cwd });
  };
  const results = await Promise.all(EIGHT.map(develop));
  assert.ok(
    results.every(({ code }) => code === 0),
    JSON.stringify(results),
  );
  await mounted.must(mounted.python, '-c', `import ${EIGHT.join(', ')}`);
  await mounted.settle();
  const lines = (await mounted.must('/bin/cat', join(mounted.site, 'easy-install.pth'))).trim().split('\n');
  assert.deepEqual(lines.sort(), EIGHT.map((name) => join(mounted.work, `${name}-1.0`)).sort(), mounted.serverLog());
  assert.equal((await mounted.status()).generation, 8);
  await mounted.siteswap('wait', mounted.site);
  // Removed lines stay removed.
  for (const name of EIGHT) await mounted.must('pip', 'uninstall', '-y', '-q', name);
  await mounted.settle();
  assert.deepEqual(await names(mounted, /many\d|\.egg-link/), []);
  assert.equal((await mounted.must('/bin/cat', join(mounted.site, 'easy-install.pth'))).trim(), '');
  await mounted.unmount();
});

test(
  'two versions of one package: one is live and whole, the other is kept, and wins by force',
  { timeout: TIMEOUT_MS },
  async (t) => {
    const mounted = await mountedVenv(t);
    const one = await heldInstall(
      mounted,
      'one',
      wheel(mounted, 'Two.Of_it', { files: { 'two1.py': 'VERSION = 1', 'two.py': 'VERSION = 1' } }),
    );
    const two = await heldInstall(
      mounted,
      'two',
      wheel(mounted, 'two-of-it', {
        version: '2.0',
        files: { 'two2.py': 'VERSION = 2', 'two.py': 'VERSION = 2', 'sub/two.py': '' },
      }),
    );
    await two();
    await one();
    assert.equal(
      await mounted.must(mounted.python, '-c', 'import two; print(two.VERSION)'),
      '2\n',
      mounted.serverLog(),
    );
    const [kept, ...others] = (await mounted.status()).transactions;
    assert.deepEqual([kept?.state, others], ['refused', []]);
    assert.match(
      kept?.reason ?? '',
      /Two.Of_it|two_of_it-1\.0.*and, before it, .*two_of_it-2\.0.* \(generation 1\) changed the same distribution: two-of-it$/i,
    );
    assert.match(mounted.serverLog(), /not committed/);
    const again = await mounted.trySiteswap(['commit', mounted.site, String(kept!.id)]);
    assert.equal(again.code, 15, again.stderr);

    await mounted.siteswap('commit', '--force', mounted.site, String(kept!.id));
    const files = await names(mounted, /^two/);
    assert.deepEqual(
      files.filter((path) => !/dist-info\/|__pycache__/.test(path)),
      ['two.py', 'two1.py', 'two_of_it-1.0.dist-info'],
    );
    assert.deepEqual(await names(mounted, /^sub/), []);
    assert.equal(
      await mounted.must(
        mounted.python,
        '-c',
        "import two, importlib.metadata as m; print(two.VERSION, m.version('two-of-it'))",
      ),
      '1 1.0\n',
    );
    assert.deepEqual((await mounted.log())[0]?.packages, [{ name: 'two-of-it', from: '2.0', to: '1.0' }]);
    await mounted.must('pip', 'uninstall', '-y', '-q', 'two-of-it');
    await mounted.settle();
    assert.deepEqual(
      (await names(mounted, /^two/)).filter((path) => !path.includes('__pycache__')),
      [],
    );
    await mounted.unmount();
  },
);

test('the same version twice at once: both are right', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t);
  const path = wheel(mounted, 'same');
  const [one, two] = [await heldInstall(mounted, 'one', path), await heldInstall(mounted, 'two', path)];
  await two();
  await one();
  assert.deepEqual((await mounted.status()).transactions, [], mounted.serverLog());
  await mounted.must(mounted.python, '-c', 'import same');
  await mounted.unmount();
});

test('parts of one namespace package: made, upgraded and removed at once', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t);
  const init = "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n";
  const part = (name: string, version = '1.0'): string =>
    wheel(mounted, `ns-${name}`, {
      version,
      files: { 'ns/__init__.py': init, [`ns/${name}/__init__.py`]: `V = '${version}'\n` },
    });
  const both = [await heldInstall(mounted, 'a', part('a')), await heldInstall(mounted, 'b', part('b'))];
  for (const go of both) await go();
  const show = 'import ns.a, ns.b; print(ns.a.V, ns.b.V)';
  assert.equal(await mounted.must(mounted.python, '-c', show), '1.0 1.0\n', mounted.serverLog());

  // pip moves what is all of one distribution's away as a whole directory, and makes it anew.
  await mounted.must('pip', 'uninstall', '-y', '-q', 'ns-b');
  await mounted.settle();
  const upgrade = await heldInstall(mounted, 'upgrade', part('a', '2.0'));
  const add = await heldInstall(mounted, 'add', part('b', '2.0'));
  await add();
  await upgrade();
  assert.deepEqual((await mounted.status()).transactions, [], mounted.serverLog());
  assert.equal(await mounted.must(mounted.python, '-c', show), '2.0 2.0\n');
  assert.deepEqual(await names(mounted, /^ns_.*dist-info$/), ['ns_a-2.0.dist-info', 'ns_b-2.0.dist-info']);
  await mounted.unmount();
});

test('Ctrl-C during an upgrade leaves no trace', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t);
  const files = Object.fromEntries(Array.from({ length: 400 }, (_, i) => [`big/m${i}.py`, `N = ${i}\n`]));
  const path = (version: string): string =>
    wheel(mounted, 'big', { version, files: { ...files, 'big/__init__.py': `V = '${version}'` } });
  assert.equal((await install(mounted, path('1.0'))).code, 0);
  await mounted.settle();
  const before = await mounted.listing();
  // Over the socket: a command line takes as long to start as this pip takes to install.
  const daemon = await ControlClient.connect(defaultStorePath(mounted.site));
  t.after(() => daemon.close());
  let dropped = 0;
  for (const mutations of [1, 100, 300, 600, 900]) {
    const child = mounted.start('pip', [...PIP_INSTALL, '--no-compile', path('2.0')]);
    child.stdout!.resume();
    const exited = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
    let ended = false;
    void exited.then(() => (ended = true));
    await until('it has changed enough', async () => {
      const { transactions } = await daemon.request('status', {});
      return ended || transactions.some((transaction) => transaction.mutations >= mutations);
    });
    if (!ended) process.kill(-child.pid!, 'SIGINT');
    const code = await exited;
    await mounted.settle();
    assert.deepEqual(await names(mounted, /(^|\/)~/), []);
    assert.equal((await names(mounted, /^big-[^/]*dist-info$/)).length, 1);
    if (code === 0) break;
    dropped++;
    assert.deepEqual([...(await mounted.listing())], [...before], `after ${mutations} changes`);
  }
  assert.ok(dropped > 0, 'every pip was too quick');
  await mounted.unmount();
});

test('entry points enumerated and loaded while packages come and go', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t);
  const plugin = (name: string, version: string): string =>
    wheel(mounted, name, {
      version,
      entryPoints: { [name]: `${name}.main:main` },
      files: { [`${name}/__init__.py`]: '', [`${name}/main.py`]: `def main(): return '${version}'` },
    });
  const log = join(mounted.work, 'loop.log');
  writeFileSync(log, '');
  const reader = writeScript(
    mounted,
    'reader.py',
    `import importlib.metadata as m
found = [e for e in m.entry_points(group='console_scripts') if e.name.startswith('plug')]
for e in found:
    assert e.load()() == e.dist.version, (e, e.dist.version)
`,
  );
  const loop = `n=0; while [ ! -e '${log}.stop' ]; do '${mounted.python}' '${reader}' 2>>'${log}' || echo failed >>'${log}'; n=$((n+1)); done; echo $n >'${log}.count'`;
  const loops = [1, 2].map(() => mounted.start('/bin/sh', ['-c', loop]));
  for (let round = 0; round < 4; round++) {
    const version = round % 2 === 0 ? '1.0' : '2.0';
    await Promise.all(['plug1', 'plug2'].map((name) => mounted.must('pip', ...PIP_INSTALL, plugin(name, version))));
    if (round % 2 === 1) await mounted.must('pip', 'uninstall', '-y', '-q', 'plug1');
  }
  await mounted.settle();
  writeFileSync(`${log}.stop`, '');
  await Promise.all(loops.map((child) => new Promise((resolve) => child.once('exit', resolve))));
  assert.equal(readFileSync(log, 'utf8'), '', mounted.serverLog());
  const { transactions, generation } = await mounted.status();
  assert.deepEqual([transactions, generation], [[], 10]);
  t.diagnostic(`${readFileSync(`${log}.count`, 'utf8').trim()} times`);
  await mounted.unmount();
});
