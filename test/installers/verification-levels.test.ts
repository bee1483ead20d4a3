/**
 * What is verified is the user's to say: levels, checks that are switched off, tests of their own; by option, for one run, and
 * in siteswap.toml.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mountedVenv, type MountedVenv } from '../helpers/mounted-venv.js';
import {
  assertCommitted,
  assertRunRefused,
  installedBefore,
  runInstall,
  valueOf,
  wheelOf,
  writeConfig,
} from '../helpers/verified-venv.js';

const TIMEOUT_MS = 10 * 60_000;
const NAMES = ['none', 'record', 'skipped', 'toml', 'shallow', 'deep'];

/** RECORD is wrong, and it can't be imported. */
function twiceBroken(work: string, name: string): string {
  return wheelOf(work, name, '2.0', {
    files: { [`${name}/part.py`]: '' },
    recorded: { [`${name}/part.py`]: 'VALUE = 1\n' },
    more: `import no_such_module\n`,
  });
}

function wrongRecord(work: string, name: string): string {
  return wheelOf(work, name, '2.0', {
    files: { [`${name}/part.py`]: '' },
    recorded: { [`${name}/part.py`]: 'VALUE = 1\n' },
  });
}

async function remount(mounted: MountedVenv, ...options: string[]): Promise<void> {
  await mounted.unmount();
  await mounted.mount(options);
}

test('levels, --skip-check, siteswap.toml', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t, {
    mount: ['--verify', 'none'],
    prepare: installedBefore(
      ...NAMES.map((name) => (work: string) => wheelOf(work, name, '1.0', { more: 'OLD = 1\n' })),
      ...['shallow', 'deep'].map(
        (name) => (work: string) =>
          wheelOf(work, `uses_${name}`, '1.0', { more: `from ${name} import OLD\n`, requires: [name] }),
      ),
    ),
  });
  const { work } = mounted;

  await t.test('none: nothing is looked for, the history still tells what changed', async () => {
    const result = await runInstall(mounted, twiceBroken(work, 'none'));
    assertCommitted(result);
    assert.equal(result.stderr, '');
    const [newest] = await mounted.log();
    assert.deepEqual([newest?.packages, newest?.warnings], [[{ name: 'none', from: '1.0', to: '2.0' }], []]);
  });

  await t.test('record: files are checked, nothing is imported', async () => {
    await remount(mounted, '--verify', 'record');
    assertRunRefused(
      await runInstall(mounted, wrongRecord(work, 'record')),
      /record\/part\.py \(10 bytes, not|record\/part\.py/,
    );
    await mounted.siteswap('abort', mounted.site);
    const broken = wheelOf(work, 'record', '2.0', { more: 'import no_such_module\n' });
    assertCommitted(await runInstall(mounted, broken));
  });

  await t.test('import, the default: what depends on it is not imported', async () => {
    await remount(mounted);
    assertCommitted(await runInstall(mounted, wheelOf(work, 'shallow', '2.0')));
    assert.equal((await mounted.venv.run(mounted.python, ['-c', 'import uses_shallow'])).code, 1);
  });

  await t.test('deep: what depends on it is imported too', async () => {
    await remount(mounted, '--verify', 'deep');
    const why =
      /importing uses_deep failed: ImportError: cannot import name 'OLD' from 'deep' .*\(uses_deep\/__init__\.py, line 2\)/;
    assertRunRefused(await runInstall(mounted, wheelOf(work, 'deep', '2.0')), why);
    assert.equal(await valueOf(mounted, 'uses_deep'), '1.0');
    await mounted.siteswap('abort', mounted.site);
  });

  await t.test('--skip-check: the others are left', async () => {
    await remount(mounted, '--skip-check', 'record');
    assertRunRefused(
      await runInstall(mounted, twiceBroken(work, 'skipped')),
      /not committed: importing skipped failed/,
    );
    await mounted.siteswap('abort', mounted.site);
    await remount(mounted, '--skip-check', 'record', '--skip-check', 'import');
    assertCommitted(await runInstall(mounted, twiceBroken(work, 'skipped')));
  });

  await t.test('siteswap.toml, and an option goes before it', async () => {
    const tests = `["python -B -c 'import toml; assert toml.VERSION != \\"3.0\\", \\"no three\\"'"]`;
    writeConfig(
      mounted.venv,
      `[verify]\nlevel = "import"\ntests = ${tests}\n[verify.checks]\nrecord = false\nimport = false\n`,
    );
    await remount(mounted);
    assertCommitted(await runInstall(mounted, wrongRecord(work, 'toml')));
    const three = wheelOf(work, 'toml', '3.0');
    assertRunRefused(
      await runInstall(mounted, three),
      /the test 'python -B -c .*' ended with 1: AssertionError: no three$/m,
    );
    await mounted.siteswap('abort', mounted.site);
    await remount(mounted, '--verify', 'none');
    assertRunRefused(await runInstall(mounted, three), /AssertionError: no three/);
    await mounted.siteswap('abort', mounted.site);
    writeConfig(mounted.venv, '[verify]\nlevel = "none"\n');
    await remount(mounted);
    assertCommitted(await runInstall(mounted, twiceBroken(work, 'toml')));
  });
});

test(
  "tests of the user's own: they see the staged tree, change nothing, and are limited",
  { timeout: TIMEOUT_MS },
  async (t) => {
    const mounted = await mountedVenv(t, {
      mount: ['--verify', 'none', '--check', 'ls "$VIRTUAL_ENV"/lib/python*/site-packages/demo'],
      prepare: async (venv, work) => {
        await installedBefore((dir) => wheelOf(dir, 'demo', '1.0'))(venv, work);
        writeConfig(venv, '[verify]\ntest-seconds = 3\n');
      },
    });
    const two = wheelOf(mounted.work, 'demo', '2.0');
    const first = 'python -c "import demo; print(demo.VERSION)"; exit 3';
    const refused = await runInstall(mounted, two, { options: ['--check', 'true', '--check', first] });
    const id = assertRunRefused(refused, /the test '.*' ended with 3: 2\.0$/m);
    assert.equal(await valueOf(mounted, 'demo'), '1.0');
    // The same transaction again, with other tests.
    const others: [string, RegExp][] = [
      [
        `echo x >>'${mounted.site}/demo/__init__.py'`,
        /^error: test: the test '.*' ended with 2: .*Read-only file system$/m,
      ],
      ['sleep 60', /^error: test: the test 'sleep 60' was not done after \d+(\.\d)? s$/m],
      ['kill -9 $$', /^error: test: the test 'kill -9 \$\$' was killed by SIGKILL$/m],
    ];
    for (const [check, why] of others) {
      const { code, stdout, stderr } = await mounted.trySiteswap([
        'verify',
        mounted.site,
        String(id),
        '--check',
        check,
      ]);
      assert.equal(code, 14, stderr);
      assert.match(stdout, why);
    }
    assert.equal(await valueOf(mounted, 'demo'), '1.0');
    await mounted.siteswap('abort', mounted.site);
    const passing = 'python -c "import demo; assert demo.VERSION == \'2.0\'" && echo x >"$HOME/own"';
    assertCommitted(await runInstall(mounted, two, { options: ['--check', passing] }));
    assert.equal(await valueOf(mounted, 'demo'), '2.0');
  },
);
