/**
 * Explicit transactions on real packages, what is refused, and several installers at once.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { SITESWAP } from '../helpers/built.js';
import { mountedVenv, writeScript, type MountedVenv } from '../helpers/mounted-venv.js';
import { diffTrees } from '../helpers/tree-hash.js';
import { PIP_INSTALL, versionedWheel } from '../helpers/versioned-package.js';
import type { Venv } from '../helpers/venv.js';
import { buildWheel } from '../helpers/wheel.js';

const TIMEOUT_MS = 10 * 60_000;
const SHOW = "import pkg.sub, importlib.metadata as m; print(pkg.A, pkg.sub.B, m.version('pkg'))";

/** With version 1 installed in the lower. */
function withFirst(t: TestContext, mount: readonly string[] = []): Promise<MountedVenv> {
  const prepare = async (venv: Venv, work: string): Promise<void> => {
    await venv.run('pip', [...PIP_INSTALL, versionedWheel(work, { version: '1.0.0', serial: 0 })]);
  };
  return mountedVenv(t, { prepare, mount });
}

async function shown(mounted: MountedVenv): Promise<string> {
  return (await mounted.must(mounted.python, '-c', SHOW)).split(' ')[0]!;
}

function second(mounted: MountedVenv): string {
  return versionedWheel(mounted.work, { version: '2.0.0', serial: 1 });
}

test(
  'run: commits what succeeded, drops what failed, exits as the command did',
  {
    timeout: TIMEOUT_MS,
  },
  async (t) => {
    const mounted = await withFirst(t);
    const before = await mounted.listing();
    const pip = [mounted.venv.pip, ...PIP_INSTALL, second(mounted)];

    const script = `pip ${pip.slice(1).join(' ')} && python -c "${SHOW}" && exit 7`;
    const failed = await mounted.tryRun(['sh', '-c', script]);
    assert.equal(failed.code, 7, failed.stderr);
    assert.equal(failed.stdout, '2.0.0 2.0.0 2.0.0\n', 'its members see what it does');
    assert.deepEqual(diffTrees(before, await mounted.listing()), []);

    const killed = await mounted.tryRun(['sh', '-c', `pip ${pip.slice(1).join(' ')} && kill -9 $$`]);
    assert.equal(killed.code, 128 + 9, killed.stderr);
    assert.deepEqual(diffTrees(before, await mounted.listing()), []);
    assert.equal((await mounted.tryRun(['no-such-program'])).code, 127);

    const good = await mounted.tryRun(pip);
    assert.deepEqual([good.code, good.stdout], [0, ''], good.stderr);
    assert.equal(await shown(mounted), '2.0.0');
    const [newest, base, ...others] = await mounted.log();
    assert.deepEqual(newest?.packages, [{ name: 'pkg', from: '1.0.0', to: '2.0.0' }]);
    assert.deepEqual(newest.command, pip);
    assert.deepEqual([newest.generation, base?.generation, others], [1, 0, []]);
    assert.deepEqual((await mounted.status()).transactions, []);
    await mounted.unmount();

    // The store stays: a later mount goes on at HEAD.
    await mounted.mount();
    assert.equal(await shown(mounted), '2.0.0');
    assert.equal((await mounted.status()).generation, 1);
    await mounted.unmount();
    assert.equal(await shown(mounted), '1.0.0');
  },
);

test('begin, then commit or abort', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await withFirst(t);
  const cli = 'siteswap() { "$NODE" "$CLI" "$@"; }';
  const begin = (ending: string): string[] => {
    const install = `pip ${PIP_INSTALL.join(' ')} '${second(mounted)}'`;
    const lines = [cli, `siteswap begin '${mounted.site}' --pid $$ >&2`, install, `python -c "${SHOW}"`, ending];
    return ['-ec', lines.join('\n')];
  };
  const env = { NODE: SITESWAP[0], CLI: SITESWAP[1] };
  const before = await mounted.listing();
  const aborted = await mounted.venv.run(
    '/bin/sh',
    begin(`siteswap abort '${mounted.site}' >&2; python -c "${SHOW}"`),
    {
      env,
    },
  );
  assert.deepEqual([aborted.code, aborted.stdout], [0, '2.0.0 2.0.0 2.0.0\n1.0.0 1.0.0 1.0.0\n'], aborted.stderr);
  assert.deepEqual(diffTrees(before, await mounted.listing()), []);

  const forgotten = await mounted.venv.run('/bin/sh', begin('true'), { env });
  assert.equal(forgotten.code, 0, forgotten.stderr);
  assert.deepEqual(diffTrees(before, await mounted.listing()), [], 'its process ended without a commit');

  const committed = await mounted.venv.run(
    '/bin/sh',
    begin(`siteswap commit '${mounted.site}' >&2; python -c "${SHOW}"`),
    { env },
  );
  assert.deepEqual([committed.code, committed.stdout], [0, '2.0.0 2.0.0 2.0.0\n'.repeat(2)], committed.stderr);
  assert.equal(await shown(mounted), '2.0.0');
  assert.equal((await mounted.trySiteswap(['commit', mounted.site])).code, 13);
  assert.equal((await mounted.trySiteswap(['abort', mounted.site, '12345'])).code, 13);
  await mounted.unmount();
});

test(
  'a transaction that is open keeps the mount, unless it is dropped; wait says when it has ended',
  {
    timeout: TIMEOUT_MS,
  },
  async (t) => {
    const mounted = await withFirst(t);
    const installer = writeScript(
      mounted,
      'setup.py',
      'import sys; open(sys.argv[1], "w").write("N = 1"); print(flush=True); sys.stdin.read()',
    );
    const child = mounted.start(mounted.python, [installer, join(mounted.site, 'half.py')]);
    await new Promise((resolve) => child.stdout!.once('data', resolve));
    const { transactions } = await mounted.status();
    assert.deepEqual(
      transactions.map(({ state, rootPid, command }) => ({ state, rootPid, script: command[1] })),
      [{ state: 'open', rootPid: child.pid, script: installer }],
    );
    assert.equal((await mounted.trySiteswap(['wait', mounted.site, '--timeout', '0.5'])).code, 17);
    assert.equal((await mounted.trySiteswap(['unmount', mounted.site])).code, 12);
    const waiting = mounted.siteswap('wait', mounted.site);
    child.stdin!.end();
    await waiting;
    assert.match(await mounted.must(mounted.python, '-c', 'import half; print(half.N)'), /^1$/m);
    await mounted.unmount();
  },
);

for (const missing of ['METADATA', 'RECORD'] as const) {
  test(`an install without ${missing} is refused, kept, and taken by force`, { timeout: TIMEOUT_MS }, async (t) => {
    const mounted = await withFirst(t);
    const before = await mounted.listing();
    // pip itself would not install such a wheel; an installer of another kind, or one that was cut short, does.
    const info = join(mounted.site, 'pkg-2.0.0.dist-info');
    const script = `pip ${PIP_INSTALL.join(' ')} '${second(mounted)}' && rm '${join(info, missing)}'`;
    const refused = await mounted.tryRun(['sh', '-c', script]);
    assert.equal(refused.code, 120, refused.stderr);
    assert.match(refused.stderr, new RegExp(`error: .*pkg-2\\.0\\.0\\.dist-info has no ${missing}`));
    assert.match(refused.stderr, /^hint: /m);
    assert.deepEqual(diffTrees(before, await mounted.listing()), []);
    assert.equal(await shown(mounted), '1.0.0');
    const [kept, ...others] = (await mounted.status()).transactions;
    assert.equal(kept?.state, 'refused');
    assert.deepEqual(others, []);
    assert.match(kept.reason ?? '', new RegExp(`no ${missing}`));

    // It outlives the mount.
    await mounted.unmount();
    await mounted.mount();
    assert.equal(await shown(mounted), '1.0.0');
    await mounted.siteswap('commit', '--force', mounted.site, String(kept.id));
    assert.equal(await mounted.must(mounted.python, '-c', 'import pkg; print(pkg.A)'), '2.0.0\n');
    assert.deepEqual((await mounted.status()).transactions, []);
    await mounted.unmount();
  });
}

test('an unwrapped installer whose result is refused: the old version stays', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await withFirst(t);
  const before = await mounted.listing();
  const info = join(mounted.site, 'broken-1.dist-info');
  const setup = writeScript(
    mounted,
    'setup.py',
    `import os; os.mkdir('${info}'); open('${info}/METADATA', 'w').close()`,
  );
  await mounted.must(mounted.python, setup);
  await mounted.settle();
  assert.deepEqual(diffTrees(before, await mounted.listing()), []);
  const [kept] = (await mounted.status()).transactions;
  assert.equal(kept?.state, 'refused');
  await mounted.siteswap('abort', mounted.site);
  assert.deepEqual((await mounted.status()).transactions, []);
  await mounted.unmount();
});

test('manual commits: an installer that ended well waits for `commit`', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await withFirst(t, ['--commit', 'manual']);
  await mounted.must('pip', ...PIP_INSTALL, second(mounted));
  await mounted.settle();
  assert.equal(await shown(mounted), '1.0.0');
  assert.equal((await mounted.status()).transactions[0]?.state, 'staged');
  await mounted.siteswap('commit', mounted.site);
  assert.equal(await shown(mounted), '2.0.0');
  await mounted.unmount();
});

/** `setup.py` that says when it has written its file, and ends when it is told to: two of them overlap for sure. */
const HELD = `
import os, sys
for path, text in zip(sys.argv[1::2], sys.argv[2::2]):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w') as file:
        file.write(text)
print(flush=True)
sys.stdin.read()
`;

/** Resolves when it has written; what it gives lets it end. */
async function hold(mounted: MountedVenv, script: string, files: Record<string, string>): Promise<() => Promise<void>> {
  const child = mounted.start(mounted.python, [script, ...Object.entries(files).flat()]);
  await new Promise((resolve) => child.stdout!.once('data', resolve));
  return () => {
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.stdin!.end();
    return ended;
  };
}

test('two pips at once, of different distributions: both are committed', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await withFirst(t);
  const other = (name: string): string =>
    buildWheel({ name, version: '1.0', files: { [`${name}/__init__.py`]: `NAME = '${name}'` }, dir: mounted.work });
  // One that is certainly open all the while, and two real ones beside it.
  const release = await hold(mounted, writeScript(mounted, 'setup.py', HELD), {
    [join(mounted.site, 'slow/__init__.py')]: "NAME = 'slow'",
    [join(mounted.site, 'slow.pth')]: '# nothing',
  });
  await Promise.all([
    mounted.must('pip', ...PIP_INSTALL, other('left')),
    mounted.must('pip', ...PIP_INSTALL, other('right')),
  ]);
  await mounted.must(mounted.python, '-c', 'import left, right');
  assert.equal((await mounted.venv.run(mounted.python, ['-c', 'import slow'])).code, 1, 'not committed yet');
  await release();
  const all = 'import left, right, slow, pkg; print(left.NAME, right.NAME, slow.NAME, pkg.A)';
  assert.equal(await mounted.must(mounted.python, '-c', all), 'left right slow 1.0.0\n', mounted.serverLog());
  assert.equal((await mounted.status()).generation, 3);
  assert.match(await mounted.must('pip', 'list', '--format=freeze'), /left==1\.0[^]*pkg==1\.0\.0[^]*right==1\.0/);
  await mounted.unmount();
});

test(
  'two installers at once of the same distribution: the first wins, the second is kept',
  {
    timeout: TIMEOUT_MS,
  },
  async (t) => {
    const mounted = await withFirst(t);
    const release = await hold(mounted, writeScript(mounted, 'setup.py', HELD), {
      [join(mounted.site, 'pkg/__init__.py')]: "A = 'late'",
      [join(mounted.site, 'pkg/late.py')]: '',
    });
    await mounted.must('pip', ...PIP_INSTALL, second(mounted));
    assert.equal(await shown(mounted), '2.0.0');
    const before = await mounted.listing();
    await release();
    assert.equal(await shown(mounted), '2.0.0', mounted.serverLog());
    await mounted.settle();
    assert.deepEqual(diffTrees(before, await mounted.listing()), []);
    const { transactions, generation } = await mounted.status();
    assert.equal(generation, 1);
    assert.deepEqual(
      transactions.map(({ state }) => state),
      ['refused'],
    );
    assert.match(transactions[0]?.reason ?? '', /pip.* \(generation 1\) changed the same files: .*pkg\/__init__\.py/);
    // By `run`, with a code of its own.
    const go = join(mounted.work, 'go');
    const held = `echo x=1 > '${mounted.site}/pkg/sub.py'; while [ ! -e '${go}' ]; do sleep 0.05; done`;
    const running = mounted.tryRun(['sh', '-c', held]);
    while ((await mounted.status()).transactions.every(({ state, mutations }) => state !== 'open' || mutations === 0));
    await mounted.must('pip', ...PIP_INSTALL, versionedWheel(mounted.work, { version: '1.0.0', serial: 2 }));
    await mounted.tryRun(['touch', join(mounted.site, 'unrelated')]);
    writeFileSync(go, '');
    const lost = await running;
    assert.equal(lost.code, 121, lost.stderr);
    assert.equal(await shown(mounted), '1.0.0');
    await mounted.unmount();
  },
);
