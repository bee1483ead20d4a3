/** The log can't be written, since its disk is full or its reader has gone: nobody but the log misses anything. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { MountedSite, SITESWAP } from '../helpers/mounted-site.js';
import { until } from '../helpers/mounted-venv.js';
import { runProgram } from '../helpers/venv.js';

interface Foreground {
  site: MountedSite;
  command: ChildProcess;
}

/** A mount whose log is this; the store is new, and has a commit. */
async function inForeground(t: TestContext, log: 'pipe' | number, debug = ''): Promise<Foreground> {
  const site = MountedSite.make(t);
  const [node, ...words] = [...SITESWAP, 'mount', '--foreground', site.dir];
  const command = spawn(node, words, { stdio: ['ignore', 'ignore', log], env: { ...process.env, DEBUG: debug } });
  command.stderr?.resume();
  await until('it serves', async () => (await site.try(['wait', site.dir])).code === 0);
  await site.shell('echo 2 >two.py');
  assert.equal(await site.must('wait', site.dir), '1\n');
  return { site, command };
}

// What `debug` says goes there too, also what it says in the verifier.
for (const debug of ['', 'siteswap:*']) {
  test(`the log's disk is full${debug && ', and DEBUG is set'}: neither readers nor commits notice anything`, async (t) => {
    const full = openSync('/dev/full', 'w');
    t.after(() => closeSync(full));
    const { site, command } = await inForeground(t, full, debug);
    const exited = once(command, 'exit');
    assert.equal(await site.shell('cat two.py'), '2\n');
    await site.must('unmount', site.dir);
    assert.deepEqual(await exited, [0, null]);
    await site.must('mount', site.dir);
    assert.equal(await site.shell('cat two.py'), '2\n');
  });
}

for (const [how, end] of [
  ['it is unmounted', ({ site }) => site.must('unmount', site.dir)],
  ['it is told to end', ({ command }) => Promise.resolve(command.kill('SIGTERM'))],
] as const satisfies [string, (mounted: Foreground) => Promise<unknown>][]) {
  test(`the log's reader has gone, ${how}: its store stays as it is`, async (t) => {
    const { site, command } = await inForeground(t, 'pipe');
    command.stderr?.destroy();
    const exited = once(command, 'exit');
    await end({ site, command });
    assert.deepEqual(await exited, [0, null]);
    await site.untilNoDaemon();
    assert.equal(site.isMounted, false);
    await site.must('mount', site.dir);
    assert.equal(await site.shell('cat two.py'), '2\n');
  });
}

test("the log's reader has gone, and the server dies: errors, and the store stays as it is", async (t) => {
  const { site, command } = await inForeground(t, 'pipe');
  command.stderr?.destroy();
  const exited = once(command, 'exit');
  for (const pid of site.daemons().server) process.kill(pid, 'SIGKILL');
  assert.deepEqual(await exited, [1, null]);
  await site.untilNoDaemon();
  assert.ok(site.isMounted, 'a dead mount does not show the original by itself');
  const read = await runProgram('cat', [join(site.dir, 'one.py')], { timeoutMs: 100_000 });
  assert.match(read.stderr, /not connected|connection abort/);
  await site.must('unmount', '--force', site.dir);
  await site.must('mount', site.dir);
  assert.equal(await site.shell('cat two.py'), '2\n');
});

test('session.json can not be removed at the end: that is logged, and the store stays as it is', async (t) => {
  const { site, command } = await inForeground(t, 'pipe');
  const session = join(site.store, 'session.json');
  rmSync(session);
  mkdirSync(session);
  const exited = once(command, 'exit');
  await site.must('unmount', site.dir);
  assert.deepEqual(await exited, [0, null]);
  rmSync(session, { recursive: true });
  await site.must('mount', site.dir);
  assert.equal(await site.shell('cat two.py'), '2\n');
});
