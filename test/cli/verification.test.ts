/** What is verified, as the command line has it: `siteswap.toml`, options of `mount` and `run`, `verify`, `shell`. */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import * as v from 'valibot';
import { statusSchema, type Status } from '../../src/daemon/control-protocol.js';
import { exitCode } from '../../src/util/exit-codes.js';
import { MountedSite, needsFuse, SITESWAP } from '../helpers/mounted-site.js';
import { until } from '../helpers/mounted-venv.js';
import { childrenOf, onTerminal } from '../helpers/verified-venv.js';

function configure(site: MountedSite, text: string, mode = 0o644): void {
  const path = join(site.work, 'siteswap.toml');
  writeFileSync(path, text);
  chmodSync(path, mode);
}

async function status(site: MountedSite): Promise<Status> {
  return v.parse(statusSchema, await site.json('status', site.dir));
}

/** With a transaction that was refused: new.py says 2, the visible tree does not have it. */
async function withRefused(t: TestContext): Promise<{ site: MountedSite; id: string }> {
  const site = await MountedSite.mounted(t);
  const refused = await site.try([
    'run',
    site.dir,
    '--check',
    'false',
    '--',
    'sh',
    '-c',
    `echo 2 >'${site.dir}/new.py'`,
  ]);
  assert.equal(refused.code, 120, refused.stderr);
  const [, id] = /^error: transaction (\d+) /.exec(refused.stderr) ?? [];
  return { site, id: id! };
}

test('siteswap.toml that is not right: nothing is mounted, the key is named', needsFuse, async (t) => {
  const site = MountedSite.make(t);
  const cases: [string, RegExp, number?][] = [
    [
      '[verify]\nlevle = "deep"\n',
      /siteswap\.toml: verify\.levle is not known\nhint: Checks are metadata, .*README\.md/,
    ],
    ['[verify]\nlevel = 3\n', /siteswap\.toml: verify\.level is not right: /],
    ['[verify.checks]\nrecrod = false\n', /siteswap\.toml: verify\.checks\.recrod is not known\n/],
    ['[verify]\nlevel = "deep\n', /siteswap\.toml: line 2: /],
    ['[verify]\n', /siteswap\.toml: somebody else may write to it\nhint: .*chmod go-w/, 0o666],
    ['[verify]\n', /siteswap\.toml: somebody else may write to it\n/, 0o664],
  ];
  for (const [text, message, mode] of cases) {
    configure(site, text, mode);
    await site.fails(['mount', site.dir], 2, message);
  }
  assert.equal(site.snapshot().store, null);
  assert.ok(!site.isMounted);
  configure(site, '[verify]\nlevel = "record"\n');
  await site.must('mount', site.dir);
});

test('options that are not right', async (t) => {
  const site = MountedSite.make(t);
  const cases: [string[], RegExp][] = [
    [['--verify', 'deeper'], /--verify <LEVEL>.*none, record, import, deep/],
    [['--skip-check', 'recrod'], /--skip-check <NAME>.*Checks are metadata, /],
  ];
  for (const [options, message] of cases) await site.fails(['mount', ...options, site.dir], 2, message);
  assert.equal(site.snapshot().store, null);
});

test('tests of the mount and of a run: each must succeed, the others are not held against it', needsFuse, async (t) => {
  const site = MountedSite.make(t);
  configure(site, '[verify]\ntests = ["test ! -e \'DIR/forbidden\'"]\n'.replace('DIR', site.dir));
  await site.must('mount', '--check', `test ! -e '${site.dir}/forbidden too'`, site.dir);
  const before = await site.hash();
  for (const name of ['forbidden', 'forbidden too']) {
    const { code, stderr } = await site.try(['run', site.dir, '--', 'touch', join(site.dir, name)]);
    assert.equal(code, 120, stderr);
    assert.ok(stderr.includes(`the test 'test ! -e '${site.dir}/${name}'' ended with 1\n`), stderr);
    await site.must('abort', site.dir);
  }
  assert.equal(await site.hash(), before);
  const checks = ['--check', 'true', '--check', 'echo one; echo "two \u001b[2J" >&2; exit 9'];
  const refused = await site.try(['run', site.dir, ...checks, '--', 'touch', join(site.dir, 'fine')]);
  assert.equal(refused.code, 120);
  assert.match(refused.stderr, /echo "two {2}\[2J" >&2; exit 9' ended with 9: two {2}\[2J\n/);
  await site.must('abort', site.dir);
  await site.must('run', site.dir, '--check', 'true', '--', 'touch', join(site.dir, 'fine'));
});

test('verify: what it prints, and its exit code', needsFuse, async (t) => {
  const { site, id } = await withRefused(t);
  // The test that refused it was of that run alone.
  const again = await site.try(['verify', site.dir]);
  assert.equal(again.code, 0, again.stderr);
  const lines = again.stdout.replace(/ +\d+ ms +/g, ' N ms ').split('\n');
  assert.deepEqual(lines.slice(0, 2), [`transaction ${id}`, lines[1]]);
  assert.match(lines[1]!, /^CHECK +TIME +RESULT$/);
  assert.ok(lines.includes('record N ms ok'), again.stdout);
  assert.ok(!again.stdout.includes('import'), 'there is no interpreter');
  const failing = await site.try(['verify', site.dir, id, '--check', 'echo sorry; exit 3', '--json']);
  assert.equal(failing.code, 14);
  const { transaction, findings } = JSON.parse(failing.stdout) as { transaction: number; findings: unknown[] };
  assert.deepEqual(
    [String(transaction), findings],
    [
      id,
      [{ severity: 'error', check: 'test', path: '', message: "the test 'echo sorry; exit 3' ended with 3: sorry" }],
    ],
  );
  assert.match(
    await site.must('status', site.dir),
    new RegExp(`^${id} was refused: the test 'echo sorry; exit 3' ended`, 'm'),
  );
  await site.must('abort', site.dir);
  await site.fails(['verify', site.dir], 13, /there is no transaction to verify/);
  await site.fails(['verify', site.dir, id], 13, new RegExp(`there is no transaction ${id}`));
  await site.fails(['verify', site.dir, 'x'], 2, /'x' is not a transaction's number/);
});

test('shell: sees the staged tree, changes nothing, and its exit code is the exit code', needsFuse, async (t) => {
  const { site, id } = await withRefused(t);
  const before = await site.hash();
  const shell = (...command: string[]): ReturnType<MountedSite['try']> =>
    site.try(['shell', site.dir, id, '--', ...command]);
  assert.equal((await shell('cat', 'new.py')).stdout, '2\n', 'it begins there');
  const write = await shell('sh', '-c', 'echo 3 >new.py');
  assert.equal(write.code, 2);
  assert.match(write.stderr, /Read-only file system/);
  assert.equal((await shell('sh', '-c', 'exit 41')).code, 41);
  assert.equal((await shell('sh', '-c', 'kill -9 $$')).code, 137);
  assert.deepEqual((await shell('/nonexistent')).code, 127);
  assert.deepEqual((await shell('/etc/passwd')).code, 126);
  const interactive = await site.try(['shell', site.dir], { env: { SHELL: '/bin/pwd' } });
  assert.deepEqual(
    [interactive.code, interactive.stdout, interactive.stderr],
    [0, `${site.dir}\n`, `This shell sees transaction ${id} in ${site.dir}, read-only. End it with \`exit\`.\n`],
  );
  assert.equal(await site.hash(), before);
  // Its shell is gone, so it can be dropped.
  await site.must('abort', site.dir);
  await site.fails(['shell', site.dir, '--', 'true'], 13, /there is no transaction to shell/);
});

test('run on a terminal shows what is checked; status too', needsFuse, async (t) => {
  const site = await MountedSite.mounted(t);
  const words = ['run', site.dir, '--check', `grep -q 1 '${site.dir}/x'`, '--', 'sh', '-c', `echo 1 >'${site.dir}/x'`];
  const shown = await onTerminal([...SITESWAP, ...words], { ...process.env, TERM: 'xterm' });
  for (const step of ['verify: record', 'verify: test', 'move-head'])
    assert.ok(shown.includes(`commit: ${step}\n`), shown);
  assert.equal(await site.shell('cat x'), '1\n');
});

test('dropped while it is checked: no verdict', needsFuse, async (t) => {
  const { site, id } = await withRefused(t);
  const go = join(site.work, 'go');
  const checking = site.try([
    'verify',
    site.dir,
    id,
    '--check',
    `: >"$HOME/x"; until test -e '${go}'; do sleep 0.05; done`,
  ]);
  const server = (await status(site)).serverPid;
  await until('a sandbox runs', () => childrenOf(server).some((verifier) => childrenOf(verifier).length > 0));
  await site.must('abort', site.dir, id);
  writeFileSync(go, '');
  const { code, stderr } = await checking;
  assert.equal(code, 13);
  assert.match(stderr, /^error: transaction \d+ \(.*\) was committed or dropped meanwhile\nhint: /);
});

test('unmount --force waits for no verification, and what it was about is kept', needsFuse, async (t) => {
  const site = await MountedSite.mounted(t);
  const run = site.try(['run', site.dir, '--check', 'sleep 600', '--', 'touch', join(site.dir, 'x')]);
  await until('its test runs', async () =>
    (await status(site)).transactions.some(({ step }) => step === 'verify test'),
  );
  await site.must('unmount', '--force', site.dir);
  assert.equal((await run).code, exitCode('runRefused'));
  await site.must('mount', site.dir);
  const { transactions } = await status(site);
  assert.deepEqual(
    transactions.map(({ state }) => state),
    ['refused'],
  );
  await site.must('commit', '--force', site.dir);
  assert.match(await site.shell('ls'), /x/);
});

test('a verifier that is killed: refused, with the reason, and nothing of it is left', needsFuse, async (t) => {
  const site = await MountedSite.mounted(t);
  const run = site.try(['run', site.dir, '--check', 'sleep 600', '--', 'touch', join(site.dir, 'x')]);
  await until('its test runs', async () =>
    (await status(site)).transactions.some(({ step }) => step === 'verify test'),
  );
  const [verifier] = childrenOf((await status(site)).serverPid);
  const sandboxes = childrenOf(verifier!);
  process.kill(verifier!, 'SIGKILL');
  const { code, stderr } = await run;
  assert.equal(code, 1, stderr);
  assert.match(stderr, /^error: verification failed: the verifier ended with SIGKILL\nhint: See server\.log/);
  await until('its sandbox has ended', () => !sandboxes.some((pid) => existsSync(`/proc/${pid}`)));
  const { transactions, health } = await status(site);
  assert.deepEqual([transactions.map(({ state }) => state), health], [['refused'], []]);
  assert.match(transactions[0]!.reason ?? '', /the verifier ended with SIGKILL/);
  assert.equal(await site.shell('ls'), 'one.py\npkg\n');
});
