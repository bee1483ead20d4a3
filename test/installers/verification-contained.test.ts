/**
 * Packages that do more than they should when they are imported: a test of an import contains them, tells what they did or
 * refuses them, and leaves nothing of them; the mount serves on, and other commits go on beside it.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { mountedVenv, until } from '../helpers/mounted-venv.js';
import {
  assertCommitted,
  assertRunRefused,
  installedBefore,
  processesWith,
  runInstall,
  valueOf,
  wheelOf,
  writeConfig,
} from '../helpers/verified-venv.js';

const TIMEOUT_MS = 10 * 60_000;
/** Nobody else's sandboxes are in it. */
const TEMPORARY = realpathSync(mkdtempSync(join(tmpdir(), 'siteswap-contained-')));
process.env['TMPDIR'] = TEMPORARY;
after(() => rmSync(TEMPORARY, { recursive: true, force: true }));

/** In command lines of what the packages start. */
const MARK = `siteswap-test-${process.pid}`;

const NAMES = ['writes', 'forks', 'sleeps', 'eats', 'kills', 'bombs'];

/** What 2.0 does besides; `outside`: files of the test's own. */
function code(name: string, { outside, site, server }: { outside: string[]; site: string; server: number }): string {
  const child = `import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', '${MARK}'], start_new_session=True)\n`;
  const codes: Record<string, string> = {
    writes: `
import os, tempfile
failed = []
for path in ${JSON.stringify([...outside, `${site}/written.py`, `${site}/writes/written.py`])}:
    try:
        open(path, 'w').close()
    except OSError as error:
        failed.append(error.errno)
    try:
        os.unlink(path)
    except OSError as error:
        failed.append(error.errno)
with open(os.path.join(tempfile.gettempdir(), 'mine'), 'w') as own: own.write('fine')
with open(os.path.expanduser('~/mine too'), 'w') as own: own.write('fine')
`,
    forks: child,
    sleeps: `${child}import time\ntime.sleep(600)\n`,
    eats: 'HELD = [bytearray(10_000_000) for _ in range(200)]\n',
    kills: `
import os, signal
for pid in ${JSON.stringify([server, process.pid])}:
    for number in (signal.SIGKILL, signal.SIGSTOP):
        try:
            os.kill(pid, number)
        except OSError:
            pass
for pid in range(2, 400):
    if pid != os.getpid():
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
`,
    bombs: `
import subprocess, sys
for _ in range(200):
    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', '${MARK}'])
`,
  };
  return codes[name]!;
}

test('packages that write, fork, sleep, eat memory, kill: contained', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t, {
    prepare: async (venv, work) => {
      await installedBefore(...NAMES.map((name) => (dir: string) => wheelOf(dir, name, '1.0')))(venv, work);
      writeConfig(venv, '[verify]\nimport-seconds = 8\nmemory-mib = 200\nprocesses = 20\n');
    },
  });
  const { serverPid } = await mounted.status();
  const precious = join(mounted.work, 'precious');
  writeFileSync(precious, 'kept');
  mkdirSync(join(mounted.work, 'home'));
  const outside = [
    precious,
    join(mounted.work, 'home', 'new'),
    join(TEMPORARY, 'new'),
    `/tmp/${MARK}`,
    `/dev/shm/${MARK}`,
  ];
  const install = (name: string): ReturnType<typeof runInstall> => {
    const more = code(name, { outside, site: mounted.site, server: serverPid });
    return runInstall(mounted, wheelOf(mounted.work, name, '2.0', { more }));
  };
  const nothingLeft = async (name: string): Promise<void> => {
    assert.deepEqual(await processesWith(MARK), [], `${name} left processes`);
    const scratch = readdirSync(TEMPORARY).filter((entry) => entry.startsWith('siteswap-sandbox'));
    assert.deepEqual(scratch, [], `${name} left its directory`);
    const { serverPid: now, health } = await mounted.status();
    assert.deepEqual([now, health], [serverPid, []], mounted.serverLog());
  };
  const refused: Record<string, RegExp> = {
    sleeps: /importing sleeps failed: it was not done after \d+(\.\d)? s \(sleeps\/__init__\.py, line \d+\)/,
    eats: /importing eats failed: (it used more memory than a test may|MemoryError)/,
    bombs: /importing bombs failed: (it started more processes than a test may|BlockingIOError)/,
  };
  for (const [name, why] of Object.entries(refused)) {
    await t.test(`${name}: refused`, async () => {
      assertRunRefused(await install(name), why);
      await nothingLeft(name);
      assert.equal(await valueOf(mounted, name), '1.0');
    });
  }
  await t.test('writes: nothing of it is anywhere', async () => {
    assertCommitted(await install('writes'));
    await nothingLeft('writes');
    assert.deepEqual(
      outside.filter((path) => existsSync(path)),
      [precious],
    );
    assert.equal((await mounted.must('/bin/cat', precious)).trim(), 'kept');
    const names = [...(await mounted.listing()).keys()].filter((path) => path.includes('written'));
    assert.deepEqual(names, []);
  });
  await t.test('kills: whom it can reach is its own', async () => {
    assertCommitted(await install('kills'));
    await nothingLeft('kills');
  });
  await t.test('forks: told, and ended', async () => {
    const { code: ended, stderr } = await install('forks');
    assert.equal(ended, 0, stderr);
    assert.equal(stderr, 'warning: forks can be imported, but it leaves a process running (killed)\n');
    await nothingLeft('forks');
  });
});

test('commits go on beside a verification that takes long', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t);
  const go = join(mounted.work, 'go');
  const check = `until test -e '${go}'; do sleep 0.05; done`;
  const slow = runInstall(mounted, wheelOf(mounted.work, 'slow', '1.0'), { options: ['--check', check] });
  await until('it is in its test', async () => {
    const { transactions } = await mounted.status();
    return transactions.some(({ step }) => step === 'verify test');
  });
  assertCommitted(await runInstall(mounted, wheelOf(mounted.work, 'quick', '1.0')));
  assert.equal(await valueOf(mounted, 'quick'), '1.0');
  const { transactions, generation } = await mounted.status();
  assert.deepEqual([transactions.map(({ step }) => step), generation], [['verify test'], 1]);
  writeFileSync(go, '');
  assertCommitted(await slow);
  assert.deepEqual(
    (await mounted.log()).flatMap(({ packages }) => packages.map(({ name }) => name)),
    ['slow', 'quick'],
  );
});
