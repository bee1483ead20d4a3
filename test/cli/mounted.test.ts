/** Every command on a real mount: what it does, what it prints, its JSON and its exit code. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, statSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import * as v from 'valibot';
import { generationSchema, statusSchema } from '../../src/daemon/control-protocol.js';
import { MountedSite, needsFuse, notRun, SITESWAP } from '../helpers/mounted-site.js';
import { until } from '../helpers/mounted-venv.js';
import { inNamespace, namespaceProblem } from '../helpers/private-namespace.js';
import { makeVenv, runProgram } from '../helpers/venv.js';

test('mount, status, unmount, and the store goes on where it ended', needsFuse, async (t) => {
  const site = MountedSite.make(t);
  const mounted = await site.try(['mount', site.dir]);
  assert.deepEqual(mounted, { code: 0, signal: null, stdout: '', stderr: `mounted over ${site.dir}\n` });
  assert.equal(statSync(site.store).mode & 0o777, 0o700);
  const status = v.parse(statusSchema, await site.json('status', site.dir));
  assert.equal(status.mountpoint, site.dir);
  assert.equal(status.store, site.store);
  assert.equal(status.generation, 0);
  assert.deepEqual([status.transactions, status.health, status.commit], [[], [], 'auto']);
  assert.deepEqual(site.daemons().server, [status.serverPid]);
  assert.match(await site.must('status', site.dir), /^mounted over: {2}.*\ngeneration: {4}0$/ms);

  await site.shell('echo 2 >two.py');
  assert.equal(await site.must('wait', site.dir), '1\n');
  assert.deepEqual(await site.json('wait', site.dir, '--timeout', '100'), { generation: 1 });
  const unmounted = await site.try(['unmount', site.dir]);
  assert.deepEqual(unmounted, { code: 0, signal: null, stdout: '', stderr: `unmounted ${site.dir}\n` });
  assert.ok(!existsSync(join(site.dir, 'two.py')));
  assert.deepEqual(site.daemons(), { keeper: [], server: [] });
  site.assertLowerUntouched();

  await site.must('mount', site.dir);
  assert.equal(await site.shell('cat two.py'), '2\n');
  await site.must('unmount', '--purge', site.dir);
  assert.equal(site.snapshot().store, null);
});

test('log: newest first; of a store without a mount too', needsFuse, async (t) => {
  const site = await MountedSite.mounted(t);
  for (const name of ['a', 'b']) await site.must('run', site.dir, '--', 'touch', join(site.dir, name));
  const schema = v.object({ generations: v.array(generationSchema), refused: v.array(v.unknown()) });
  const log = v.parse(schema, await site.json('log', site.dir));
  assert.deepEqual(
    log.generations.map(({ generation, parent, reason, command }) => [generation, parent, reason, command[0] ?? null]),
    [
      [2, 1, 'commit', 'touch'],
      [1, 0, 'commit', 'touch'],
      [0, null, 'base', null],
    ],
  );
  const newest = v.parse(schema, await site.json('log', site.dir, '-n', '1'));
  assert.deepEqual(newest.generations, log.generations.slice(0, 1));
  assert.match(await site.must('log', site.dir), /^GENERATION +TIME.*\n2 .* touch .*\n1 .*\n0 .*base/);

  await site.must('unmount', site.dir);
  const before = site.snapshot();
  assert.deepEqual(await site.json('log', site.dir), log);
  assert.deepEqual(await site.json('log', site.dir, '--limit', '1'), newest);
  assert.deepEqual(site.snapshot(), before);
});

test('run: CMD decides, and its exit code is the exit code', needsFuse, async (t) => {
  const site = await MountedSite.mounted(t);
  const before = await site.hash();
  const run = async (...command: string[]): Promise<number | null> =>
    (await site.try(['run', site.dir, '--', ...command], {})).code;
  assert.equal(await run('sh', '-c', `echo no >'${site.dir}/bad'; exit 41`), 41);
  assert.equal(await run('sh', '-c', `echo no >'${site.dir}/bad'; kill -9 $$`), 137);
  assert.equal(await run('/nonexistent/command'), 127);
  assert.equal(await run('/etc/passwd'), 126);
  assert.equal(await site.hash(), before);
  assert.equal(await run('true'), 0);
  assert.equal(await site.must('wait', site.dir), '0\n', 'nothing was changed: no generation');
  assert.equal(await run('sh', '-c', `echo yes >'${site.dir}/good'`), 0);
  assert.equal(await site.shell('cat good'), 'yes\n');
  assert.deepEqual(await site.json('wait', site.dir), { generation: 1 });
});

test('run: a result that is refused: 120, kept, and taken by force or dropped', needsFuse, async (t) => {
  const site = await MountedSite.mounted(t);
  const before = await site.hash();
  const install = (name: string): string[] => {
    const info = join(site.dir, `${name}-1.dist-info`);
    return [
      'run',
      site.dir,
      '--',
      'sh',
      '-c',
      `mkdir '${info}'; printf 'Metadata-Version: 2.1\\nName: ${name}\\nVersion: 1\\n' >'${info}/METADATA'`,
    ];
  };
  const refused = await site.try(install('half'));
  assert.equal(refused.code, 120, refused.stderr);
  assert.match(refused.stderr, /^error: .*half-1\.dist-info has no RECORD/m);
  assert.equal(await site.hash(), before);
  const status = v.parse(statusSchema, await site.json('status', site.dir));
  assert.equal(status.transactions[0]!.state, 'refused');
  await site.fails(['commit', site.dir], 13, /there is no transaction to commit/);

  // It is kept over an unmount.
  await site.must('unmount', site.dir);
  await site.must('mount', site.dir);
  const id = String(status.transactions[0]!.id);
  await site.fails(['commit', site.dir, id], 14, /is not committed: half-1\.dist-info has no RECORD/);
  const forced = {
    generation: 1,
    changed: true,
    warnings: ['taken by force, although: half-1.dist-info has no RECORD'],
  };
  assert.deepEqual(await site.json('commit', '--force', site.dir, id), forced);
  assert.match(await site.shell('cat half-1.dist-info/METADATA'), /^Name: half$/m);

  assert.equal((await site.try(install('other'))).code, 120);
  await site.must('abort', site.dir);
  assert.deepEqual(v.parse(statusSchema, await site.json('status', site.dir)).transactions, []);
});

test('begin, commit, abort: a token joins, the number is on stdout', needsFuse, async (t) => {
  const site = await MountedSite.mounted(t);
  const owner = spawn('sleep', ['300']);
  t.after(() => owner.kill());
  await once(owner, 'spawn');
  const pid = String(owner.pid);
  const begin = v.object({ transaction: v.number(), token: v.string() });
  const first = v.parse(begin, await site.json('begin', site.dir, '--pid', pid));
  await site.fails(['begin', site.dir, '--pid', pid], 12, /has a transaction already/);
  await site.fails(['begin', site.dir, '--pid', '4194304'], 13, /there is no process/);
  const join_ = async (token: string, script: string): Promise<void> => {
    const env = { ...process.env, SITESWAP_TRANSACTION: token };
    const { code, stderr } = await runProgram('sh', ['-c', `cd '${site.dir}'; ${script}`], { cwd: '/', env });
    assert.equal(code, 0, stderr);
  };
  await join_(first.token, 'echo 1 >mine; cat mine');
  assert.equal(await site.shell('ls'), 'one.py\npkg\n');
  await site.fails(['unmount', site.dir], 12, /still open/);
  assert.deepEqual(await site.json('commit', site.dir), { generation: 1, changed: true, warnings: [] });
  assert.equal(await site.shell('cat mine'), '1\n');

  const second = v.parse(begin, await site.json('begin', site.dir, '--pid', pid));
  assert.notEqual(second.transaction, first.transaction);
  await join_(second.token, 'rm mine');
  assert.deepEqual(await site.json('abort', site.dir, String(second.transaction)), { transaction: second.transaction });
  assert.equal(await site.shell('cat mine'), '1\n');
  await site.fails(['commit', site.dir, String(second.transaction)], 13, /./);
  await site.fails(['abort', site.dir], 13, /there is no transaction to abort/);

  const third = (await site.must('begin', site.dir, '--pid', pid)).trim();
  assert.match(third, /^\d+$/);
  const empty = await site.try(['commit', site.dir, third]);
  assert.deepEqual([empty.code, empty.stdout, empty.stderr], [0, '1\n', 'Nothing was changed: no new generation.\n']);

  const fourth = v.parse(begin, await site.json('begin', site.dir, '--pid', pid));
  await join_(fourth.token, 'rm mine');
  await site.must('unmount', '--force', site.dir);
  await site.must('mount', site.dir);
  assert.equal(await site.shell('cat mine'), '1\n');
});

test('--commit manual: what ended well waits for commit', needsFuse, async (t) => {
  const site = await MountedSite.mounted(t, '--commit', 'manual');
  await site.shell('touch staged');
  await until('it is staged', async () => {
    const { transactions } = v.parse(statusSchema, await site.json('status', site.dir));
    return transactions[0]?.state === 'staged';
  });
  assert.equal(await site.shell('ls'), 'one.py\npkg\n');
  assert.equal(await site.must('commit', site.dir), '1\n');
  assert.equal(await site.shell('ls'), 'one.py\npkg\nstaged\n');
});

test('wait: until an installer has ended, or the time is over; unmount refuses meanwhile', needsFuse, async (t) => {
  const site = await MountedSite.mounted(t);
  const writer = spawn('sh', ['-c', 'echo >slow && echo begun && read end'], {
    cwd: site.dir,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.after(() => writer.kill());
  await once(writer.stdout, 'data');
  await site.fails(['wait', site.dir, '--timeout', '0.2'], 17, /./);
  const waiting = site.must('wait', site.dir);
  writer.stdin.end('\n');
  assert.equal(await waiting, '1\n');
});

test('unmount: in use: names who; --lazy lets him finish', needsFuse, async (t) => {
  const site = await MountedSite.mounted(t);
  const user = spawn('sh', ['-c', 'cat one.py; read end; cat one.py'], {
    cwd: site.dir,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.after(() => user.kill());
  await once(user.stdout, 'data');
  await site.fails(['unmount', site.dir], 12, new RegExp(`is in use by sh \\(${user.pid}, cwd\\)`));
  assert.ok(site.isMounted);
  const { code, stderr } = await site.try(['unmount', '--lazy', '--purge', site.dir]);
  assert.equal(code, 10);
  assert.match(stderr, /^unmounted .*\nerror: .* is in use: not deleted\nhint: .*unmount --purge/);
  assert.ok(!site.isMounted);
  user.stdin.end('\n');
  assert.equal(await text(user.stdout), '1\n');
  await site.untilNoDaemon();
  await site.must('mount', site.dir);
  await site.must('unmount', '--lazy', '--purge', site.dir);
  assert.ok(!existsSync(site.store));
});

test('--store: elsewhere; unmount finds it, log and --purge are told it', needsFuse, async (t) => {
  const site = MountedSite.make(t);
  const store = join(site.work, 'else where');
  await site.must('mount', '--store', store, site.dir);
  await site.must('run', site.dir, '--', 'touch', join(site.dir, 'x'));
  assert.equal(v.parse(statusSchema, await site.json('status', site.dir)).store, store);
  await site.fails(['unmount', '--purge', '--store', site.store, site.dir], 2, /has another store/);
  await site.must('unmount', site.dir);
  assert.equal(site.snapshot().store, null);
  await site.fails(['log', site.dir], 7, /is not mounted/);
  assert.match(await site.must('log', '--store', store, site.dir), /^1 /m);
  await site.fails(['unmount', '--purge', site.dir], 7, /is not mounted/);
  await site.fails(['unmount', '--purge', '--store', site.work, site.dir], 7, /is no siteswap store/);
  await site.must('unmount', '--purge', '--store', store, site.dir);
  assert.ok(!existsSync(store));
});

test('without DIR it is the purelib of the active environment', needsFuse, async (t) => {
  const site = MountedSite.make(t);
  const venv = makeVenv(join(site.work, 'venv'), { pip: false });
  const told = async (...args: string[]): Promise<string> => {
    const { code, stderr } = await site.try(args, { env: { ...venv.env, VIRTUAL_ENV: venv.prefix } });
    assert.equal(code, 0, stderr);
    return stderr;
  };
  assert.equal(await told('mount'), `mounted over ${venv.sitePackages}\n`);
  t.after(() => site.try(['unmount', '--force', '--lazy', venv.sitePackages]));
  assert.equal(await told('unmount', '--purge').then((line) => line.split('\n')[0]), `unmounted ${venv.sitePackages}`);
  await site.fails(['mount'], 3, /./, { env: { VIRTUAL_ENV: join(site.work, 'none') } });
});

test('--foreground: stays; a signal unmounts it, and so does unmount', needsFuse, async (t) => {
  const site = MountedSite.make(t);
  for (const end of ['SIGINT', 'SIGTERM', 'unmount'] as const) {
    const [node, ...words] = [...SITESWAP, 'mount', '--foreground', site.dir];
    // A terminal's Ctrl-C goes to the whole group.
    const child = spawn(node, words, { stdio: ['ignore', 'inherit', 'pipe'], detached: true });
    const exited = once(child, 'exit') as Promise<[number | null, string | null]>;
    const [said] = [text(child.stderr), await until('it is mounted', () => site.isMounted)];
    await until('it serves', async () => (await site.try(['status', site.dir])).code === 0);
    if (end === 'unmount') await site.must('unmount', site.dir);
    else process.kill(-child.pid!, end);
    assert.deepEqual(await exited, [0, null], await said);
    assert.match(await said, /serving /);
    assert.ok(!site.isMounted);
    await site.untilNoDaemon();
  }
});

test('SIGINT while mounting: nothing is mounted afterwards, and it can be mounted', needsFuse, async (t) => {
  const site = MountedSite.make(t);
  const points = {
    'it has just started': () => true,
    'there is a keeper': () => site.daemons().keeper.length > 0,
    'there is a server': () => site.daemons().server.length > 0,
    'it is mounted': () => site.isMounted,
  };
  let interrupted = 0;
  for (const [point, reached] of Object.entries(points)) {
    for (const flags of [[], ['--foreground']]) {
      const [node, ...words] = [...SITESWAP, 'mount', ...flags, site.dir];
      const child = spawn(node, words, { stdio: 'ignore', detached: true });
      const exited = once(child, 'exit') as Promise<[number | null, string | null]>;
      await once(child, 'spawn');
      while (!reached() && child.exitCode === null) await nextTurn();
      if (child.exitCode === null) process.kill(-child.pid!, 'SIGINT');
      const [code, signal] = await exited;
      if (code === 130 || signal === 'SIGINT') interrupted++;
      // It came too late: in the foreground it ended what served already, otherwise there was nobody left to interrupt.
      else assert.equal(code, 0);
      if (code === 0 && flags.length === 0) await site.must('unmount', site.dir);
      await site.untilNoDaemon();
      assert.ok(!site.isMounted, `mounted after SIGINT when ${point}, ${flags.join()}`);
    }
  }
  assert.notEqual(interrupted, 0, 'it always came too late');
  await site.must('mount', site.dir);
});

test('SIGINT twice while mounting: it does not wait, and ends with 130', needsFuse, async (t) => {
  const site = MountedSite.make(t);
  const [node, ...words] = [...SITESWAP, 'mount', site.dir];
  const child = spawn(node, words, { stdio: ['ignore', 'ignore', 'pipe'], detached: true });
  const exited = once(child, 'exit') as Promise<[number | null, string | null]>;
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    said += chunk;
    if (child.exitCode === null) process.kill(-child.pid!, 'SIGINT');
  });
  await until('there is a keeper', () => site.daemons().keeper.length > 0);
  process.kill(-child.pid!, 'SIGINT');
  assert.deepEqual(await exited, [130, null], said);
  assert.equal(said, 'Interrupted: waiting for the daemon to unmount.\n');
  // The daemon goes on by itself, to the end of what it began.
  await until('it is mounted', () => site.isMounted);
  await until('it serves', async () => (await site.try(['status', site.dir])).code === 0);
});

test('mount -t siteswap', needsFuse, async (t) => {
  const problem = namespaceProblem() ?? (existsSync('/sbin/mount.siteswap') ? '/sbin/mount.siteswap is there' : null);
  if (problem !== null) return notRun(t, problem);
  const site = MountedSite.make(t);
  const upper = join(site.work, 'sbin');
  mkdirSync(upper);
  symlinkSync(join(process.cwd(), 'mount-scripts/mount.siteswap'), join(upper, 'mount.siteswap'));
  for (const tool of readdirSync('/sbin')) symlinkSync(join('/proc/1/root/sbin', tool), join(upper, tool));
  // mount(8) looks for helpers in /sbin only, which is the namespace's own here.
  const script = `
    export PATH=$PATH:${dirname(process.execPath)}
    mount --bind "$WORK/sbin" /sbin
    mount -t siteswap "$DIR" "$DIR" -o defaults,nofail,commit=manual,store="$WORK/st"
    grep -c "fuse.siteswap $WORK/st" /proc/self/mountinfo
    "$NODE" dist/cli/main.js status "$DIR" --json | grep '"commit"'
    if mount -t siteswap "$DIR" "$DIR" -o store="$WORK/st" 2>"$WORK/error"; then exit 9; else echo "$?"; fi
    umount "$DIR"
    grep -c "fuse.siteswap $WORK/st" /proc/self/mountinfo || true`;
  const { code, stdout, stderr } = await inNamespace(site.work, script, { DIR: site.dir });
  assert.equal(code, 0, stdout + stderr);
  assert.equal(stdout, '1\n  "commit": "manual",\n32\n0\n');
  await site.untilNoDaemon();
});
