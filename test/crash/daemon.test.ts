/** Keeper or server are killed with SIGKILL while nothing happens, or everything at once: what users and commands see. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { MountedSite } from '../helpers/mounted-site.js';
import { until } from '../helpers/mounted-venv.js';
import { runProgram } from '../helpers/venv.js';

function kill(pids: readonly number[]): void {
  assert.notEqual(pids.length, 0);
  for (const pid of pids) process.kill(pid, 'SIGKILL');
}

test('the server dies: errors, never the old packages; commands say what to do; --force ends it', async (t) => {
  const site = await MountedSite.mounted(t);
  kill(site.daemons().server);
  await site.untilNoDaemon();
  assert.ok(site.isMounted, 'a dead mount does not show the original by itself');
  const read = await runProgram('cat', [join(site.dir, 'one.py')], { timeoutMs: 100_000 });
  assert.match(read.stderr, /not connected|connection abort/);
  for (const command of ['status', 'wait', 'begin', 'commit', 'abort', 'unmount']) {
    await site.fails([command, site.dir], 16, /does not answer/);
  }
  await site.fails(['run', site.dir, '--', 'true'], 16, /does not answer/);
  await site.fails(['mount', site.dir], 4, /already mounted/);
  const { code, stderr } = await site.try(['unmount', '--force', site.dir]);
  assert.equal(code, 0);
  assert.match(stderr, /^warning: .* does not answer: ending the mount without it\nunmounted /);
  assert.equal(await site.shell('cat one.py'), '1\n');
  await site.must('mount', site.dir);
  assert.equal(await site.shell('cat one.py'), '1\n');
});

test('clean-stale-mounts ends the mount of a dead server, and no other', async (t) => {
  const [site, other] = [await MountedSite.mounted(t), await MountedSite.mounted(t)];
  kill(site.daemons().server);
  await site.untilNoDaemon();
  // Named, because tests beside this one have dead mounts of their own.
  const { status, stdout, stderr } = spawnSync('mount-scripts/clean-stale-mounts', [site.dir, other.dir], {
    encoding: 'utf8',
    timeout: 100_000,
  });
  assert.equal(status, 0, stderr);
  assert.ok(stdout.includes(`removed: ${site.dir}\n`), stdout);
  assert.ok(!stdout.includes(other.dir), stdout);
  assert.ok(!site.isMounted && other.isMounted);
  assert.equal(await other.shell('cat one.py'), '1\n');
});

test('the keeper dies: the server goes on, says so, and unmount leaves nothing', async (t) => {
  const site = await MountedSite.mounted(t);
  kill(site.daemons().keeper);
  await until('status tells it', async () => /the keeper has died/.test(await site.must('status', site.dir)));
  await site.shell('echo 2 >two.py');
  assert.equal(await site.must('wait', site.dir), '1\n');
  assert.equal(await site.shell('cat two.py'), '2\n');
  const user = spawn('sh', ['-c', 'echo here; read end'], { cwd: site.dir, stdio: ['pipe', 'pipe', 'inherit'] });
  await once(user.stdout, 'data');
  await site.fails(['unmount', site.dir], 12, /is in use\n/);
  user.stdin.end();
  await text(user.stdout);
  await until('it has ended', () => user.exitCode !== null);
  await site.must('unmount', site.dir);
  assert.deepEqual(site.daemons(), { keeper: [], server: [] });
  site.assertLowerUntouched();
  await site.must('mount', site.dir);
  assert.equal(await site.shell('cat two.py'), '2\n');
});

test('the keeper dies, then the server: nothing hangs, and --force ends it', async (t) => {
  const site = await MountedSite.mounted(t);
  kill(site.daemons().keeper);
  kill(site.daemons().server);
  await site.untilNoDaemon();
  assert.notEqual((await runProgram('ls', [site.dir], { timeoutMs: 100_000 })).code, 0);
  await site.must('unmount', '--force', site.dir);
  assert.equal(await site.shell('cat one.py'), '1\n');
});

test('the server dies in the middle of an install: all of it is gone, and the installer gets errors', async (t) => {
  const site = await MountedSite.mounted(t);
  const before = await site.hash();
  const installer = spawn('sh', ['-c', 'i=0; while echo $i >f$i; do i=$((i+1)); done; exit 7'], {
    cwd: site.dir,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const exited = once(installer, 'exit');
  const complaint = text(installer.stderr);
  await until('it has written', async () => /\n\d+ +open +0 +[1-9]\d+ /.test(await site.must('status', site.dir)));
  kill(site.daemons().server);
  assert.notDeepEqual(await exited, [0, null]);
  // Which error depends on the request that was in the air: a write that the kernel had begun ends with EIO.
  assert.match(await complaint, /not connected|connection abort|directory nonexistent|I\/O error/);
  await site.untilNoDaemon();
  await site.must('unmount', '--force', site.dir);
  await site.must('mount', site.dir);
  assert.equal(await site.hash(), before);
});
