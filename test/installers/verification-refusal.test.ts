/**
 * What a user meets when an install is refused: the old version at every instant, one clear message on the terminal, and
 * commands to look at it, to check it again, to take it and to drop it.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as v from 'valibot';
import { methods } from '../../src/daemon/control-protocol.js';
import { SITESWAP } from '../helpers/built.js';
import { mountedVenv, type MountedVenv } from '../helpers/mounted-venv.js';
import { installedBefore, onTerminal, valueOf, wheelOf } from '../helpers/verified-venv.js';
import type { RunResult } from '../helpers/venv.js';
import { PIP_INSTALL } from '../helpers/versioned-package.js';

const TIMEOUT_MS = 10 * 60_000;
const SEED = [
  'import importlib.metadata as m',
  'import seed, seed.part',
  "assert seed.VERSION == m.version('seed') == '1.0'",
];
const BROKEN = { more: 'from seed import part\n', files: { 'seed/part.py': 'import no_such_module\n' } };

function seed(work: string, version: string): string {
  return wheelOf(work, 'seed', version, version === '2.0' ? BROKEN : { files: { 'seed/part.py': '' } });
}

/** Fresh interpreters, one after the other, until stopped: how many there were, and what those said that failed. */
function importing(mounted: MountedVenv): () => Promise<{ count: number; failures: string[] }> {
  const result = { count: 0, failures: [] as string[] };
  const stopped = new AbortController();
  const loop = async (): Promise<void> => {
    while (!stopped.signal.aborted) {
      const { code, stderr } = await mounted.venv.run(mounted.python, ['-B', '-c', SEED.join('\n')]);
      result.count += 1;
      if (code !== 0) result.failures.push(stderr);
    }
  };
  const loops = loop();
  return async () => {
    stopped.abort();
    await loops;
    return result;
  };
}

test(
  'v1 works; a v2 that is broken: v1 can be imported at every instant, and the terminal says why',
  { timeout: TIMEOUT_MS },
  async (t) => {
    const mounted = await mountedVenv(t, { prepare: installedBefore((work) => seed(work, '1.0')) });
    const before = await mounted.listing();
    const stop = importing(mounted);
    // As a user does it: nobody waits for the commit but the next command.
    const words = [mounted.python, '-m', 'pip', ...PIP_INSTALL, seed(mounted.work, '2.0')];
    const script = `"$@"; echo "pip ended with $?"; ${SITESWAP.map((word) => `'${word}'`).join(' ')} wait '${mounted.site}'`;
    const shown = await onTerminal(['sh', '-c', script, 'sh', ...words], mounted.venv.env);
    const { count, failures } = await stop();
    assert.deepEqual(failures, []);
    assert.ok(count > 2, String(count));
    assert.deepEqual(await mounted.listing(), before);

    const { transactions } = await mounted.status();
    assert.deepEqual(
      transactions.map(({ state }) => state),
      ['refused'],
      shown + mounted.serverLog(),
    );
    const { id } = transactions[0]!;
    const site = mounted.site;
    assert.deepEqual(
      shown
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => line.replace(/\(python -m .*?\)/, '(PIP)')),
      [
        'pip ended with 0',
        `siteswap: transaction ${id} (PIP) is not committed, nothing was changed:`,
        "siteswap:   importing seed failed: ModuleNotFoundError: No module named 'no_such_module' (seed/part.py, line 1)",
        `siteswap: look at it:            siteswap shell ${site} ${id}`,
        `siteswap: check it again:        siteswap verify ${site} ${id}`,
        `siteswap: take it all the same:  siteswap commit --force ${site} ${id}`,
        `siteswap: drop it:               siteswap abort ${site} ${id}`,
        '0',
      ],
    );
    assert.ok(transactions[0]!.reason?.includes('no_such_module'));

    await t.test('shell: the staged tree, read-only; everybody else sees the old one meanwhile', async () => {
      const tries = [
        `${mounted.python} -B -c 'import importlib.metadata as m; print(m.version("seed"))'`,
        `cat ${site}/seed/part.py`,
        'pwd',
        `touch ${site}/new 2>&1 || echo no`,
        `rm ${site}/seed/part.py 2>&1 || echo no`,
        `echo x 2>/dev/null >>${site}/seed/part.py || echo no`,
        `mkdir ${site}/seed/d 2>&1 || echo no`,
        'echo "$SITESWAP_SHELL"',
        'exit 7',
      ];
      const looked = await mounted.trySiteswap(['shell', site, String(id), '--', 'sh', '-c', tries.join('\n')]);
      assert.equal(looked.code, 7, looked.stderr);
      const lines = looked.stdout.split('\n');
      assert.deepEqual(lines.slice(0, 3), ['2.0', 'import no_such_module', site]);
      assert.equal(lines.filter((line) => line === 'no').length, 4, looked.stdout);
      assert.equal(lines.filter((line) => line.endsWith('Read-only file system')).length, 3, looked.stdout);
      assert.equal(lines.at(-2), String(id));
      assert.equal(await valueOf(mounted, 'seed'), '1.0');
      assert.deepEqual(await mounted.listing(), before);
      const bad = await mounted.trySiteswap(['shell', site, '999999', '--', 'true']);
      assert.equal(bad.code, 13);
      assert.match(bad.stderr, /^error: no transaction 999999 was refused or staged\nhint: /);
    });

    await t.test('verify: the same again, each check with its time', async () => {
      const again = await mounted.trySiteswap(['verify', site, '--json']);
      assert.equal(again.code, 14, again.stderr);
      const { findings, checks, transaction } = v.parse(methods.verify.result, JSON.parse(again.stdout));
      assert.equal(transaction, id);
      assert.deepEqual(
        findings.map(({ severity, check, path }) => [severity, check, path]),
        [['error', 'import', 'seed/part.py']],
      );
      for (const name of ['interpreter', 'record', 'metadata', 'dependencies', 'import']) {
        assert.ok(
          checks.some((check) => check.name === name),
          name,
        );
      }
      const text = await mounted.trySiteswap(['verify', site, String(id), '--check', 'echo hm; false']);
      assert.equal(text.code, 14);
      assert.match(text.stdout, /^transaction \d+\nCHECK +TIME +RESULT\n/);
      assert.match(text.stdout, /^import +\d+ ms +1 error$/m);
      assert.match(text.stdout, /^record +\d+ ms +ok$/m);
      assert.match(text.stdout, /^error: import: importing seed failed: .*seed\/part\.py, line 1\)$/m);
      assert.match(text.stdout, /^error: test: the test 'echo hm; false' ended with 1: hm$/m);
    });

    await t.test('commit --force takes it, and the history tells', async () => {
      await mounted.siteswap('commit', '--force', site, String(id));
      assert.equal((await mounted.venv.run(mounted.python, ['-B', '-c', SEED.join('\n')])).code, 1);
      const [newest] = await mounted.log();
      assert.deepEqual(newest?.packages, [{ name: 'seed', from: '1.0', to: '2.0' }]);
      assert.match(newest?.warnings.join() ?? '', /^taken by force, although: importing seed failed/);
    });
  },
);

test(
  'two installs that are right alone and wrong together: the second is refused',
  { timeout: TIMEOUT_MS },
  async (t) => {
    const mounted = await mountedVenv(t, { prepare: installedBefore((work) => wheelOf(work, 'lib', '1.0')) });
    const site = mounted.site;
    const [upgrade, user] = [await beginFor(mounted), await beginFor(mounted)];
    const install = async (wheel: string, env: NodeJS.ProcessEnv): Promise<void> => {
      const { code, stderr } = await mounted.venv.run('pip', [...PIP_INSTALL, wheel], { env });
      assert.equal(code, 0, stderr);
    };
    await install(wheelOf(mounted.work, 'lib', '2.0'), upgrade.env);
    await install(wheelOf(mounted.work, 'app', '1.0', { requires: ['lib<2'] }), user.env);
    assert.equal((await upgrade.commit()).code, 0);
    const second = await user.commit();
    assert.equal(second.code, 14, second.stderr);
    assert.match(second.stderr, /is not committed: app 1\.0 needs lib<2, but lib 2\.0 is installed\nhint: /);
    assert.equal(await valueOf(mounted, 'lib'), '2.0');
    assert.ok(![...(await mounted.listing()).keys()].some((path) => path.startsWith('app')));
    await mounted.siteswap('abort', site);
  },
);

interface Begun {
  env: NodeJS.ProcessEnv;
  commit: () => Promise<RunResult>;
}

async function beginFor(mounted: MountedVenv): Promise<Begun> {
  const owner = mounted.start('/bin/sleep', ['600']);
  const begun: unknown = JSON.parse(
    await mounted.siteswap('begin', mounted.site, '--pid', String(owner.pid), '--json'),
  );
  const { transaction, token } = v.parse(methods.begin.result, begun);
  return {
    commit: () => mounted.trySiteswap(['commit', mounted.site, String(transaction)]),
    env: { SITESWAP_TRANSACTION: token },
  };
}

test('staged by `--commit manual`: looked at, checked, refused when committed', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t, {
    mount: ['--commit', 'manual'],
    prepare: installedBefore((work) => seed(work, '1.0')),
  });
  const { code, stderr } = await mounted.venv.run('pip', [...PIP_INSTALL, seed(mounted.work, '2.0')]);
  assert.equal(code, 0, stderr);
  await mounted.settle();
  const { transactions } = await mounted.status();
  assert.deepEqual(
    transactions.map(({ state }) => state),
    ['staged'],
  );
  assert.equal(await valueOf(mounted, 'seed'), '1.0');
  const show = ['-c', "import importlib.metadata as m; print(m.version('seed'))"];
  assert.equal(await mounted.siteswap('shell', mounted.site, '--', mounted.python, ...show), '2.0\n');
  assert.equal((await mounted.trySiteswap(['verify', mounted.site])).code, 14);
  const state = async (): Promise<string[]> => (await mounted.status()).transactions.map((each) => each.state);
  assert.deepEqual(await state(), ['staged']);
  const committed = await mounted.trySiteswap(['commit', mounted.site]);
  assert.equal(committed.code, 14, committed.stderr);
  assert.match(committed.stderr, /importing seed failed/);
  assert.deepEqual(await state(), ['refused']);
});
