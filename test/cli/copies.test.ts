/**
 * The mount is to be seen in other places too: a bind mount, a mount namespace of its own. Unmounting says so, soon, and
 * --force ends the daemon all the same.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { MountedSite, needsFuse, notRun } from '../helpers/mounted-site.js';
import { DETACH_OTHERS, namespaceProblem } from '../helpers/private-namespace.js';

/** Of one command: much less than what a daemon without copies has to end. */
const SOON_MS = 30_000;

type Body = (site: MountedSite, copy: string) => Promise<void>;

/** `copy`: an empty directory; what is mounted over it is gone afterwards. */
function copyTest(name: string, body: Body): void {
  test(name, needsFuse, async (t: TestContext) => {
    const problem = namespaceProblem();
    if (problem !== null) return notRun(t, problem);
    const site = await MountedSite.mounted(t);
    const copy = join(site.work, 'copy');
    mkdirSync(copy);
    try {
      await body(site, copy);
    } finally {
      spawnSync('umount', ['-l', copy], { timeout: SOON_MS });
    }
  });
}

function mountProgram(program: 'mount' | 'umount', ...args: string[]): void {
  const { status, stderr } = spawnSync(program, args, { encoding: 'utf8', timeout: SOON_MS });
  assert.equal(status, 0, stderr);
}

/** Has all mounts for its own, from now on. */
async function seesItsOwnMounts({ work }: MountedSite): Promise<ChildProcess> {
  const script = `${DETACH_OTHERS}
echo there; exec sleep 300`;
  const child = spawn('unshare', ['--mount', '--propagation', 'private', 'bash', '-c', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
    cwd: '/',
    env: { ...process.env, WORK: work },
  });
  await once(child.stdout, 'data');
  return child;
}

copyTest('a bind mount: unmount refuses and names it; without it, it unmounts', async (site, copy) => {
  mountProgram('mount', '--bind', site.dir, copy);
  await site.fails(['unmount', site.dir], 12, new RegExp(`is also mounted over ${copy} `), { timeoutMs: SOON_MS });
  assert.ok(site.isMounted);
  mountProgram('umount', copy);
  await site.must('unmount', site.dir);
});

copyTest('a bind mount as DIR: the mount to unmount is named', async (site, copy) => {
  mountProgram('mount', '--bind', site.dir, copy);
  for (const flags of [[], ['--force']]) {
    const words = ['unmount', ...flags, copy];
    await site.fails(words, 7, new RegExp(`copy is a copy .* of the mount over ${site.dir}\nhint: .*umount ${copy}`));
  }
  assert.ok(site.isMounted);
  mountProgram('umount', site.dir);
  await site.fails(['unmount', copy], 7, /is a copy .*\nhint: .*siteswap unmount --force /);
  await site.must('unmount', '--force', copy);
  await site.untilNoDaemon();
  assert.notEqual(spawnSync('mountpoint', ['-q', copy]).status, 0);
});

copyTest('a bind mount: --force cuts it off, and the store is free', async (site, copy) => {
  mountProgram('mount', '--bind', site.dir, copy);
  const { code, stderr } = await site.try(['unmount', '--force', site.dir], { timeoutMs: SOON_MS });
  assert.deepEqual([code, stderr], [0, `unmounted ${site.dir}\n`]);
  assert.deepEqual(site.daemons(), { keeper: [], server: [] });
  const read = spawnSync('cat', [join(copy, 'one.py')], { encoding: 'utf8', timeout: SOON_MS });
  assert.match(read.stderr, /not connected|connection abort/);
  await site.must('mount', site.dir);
  assert.equal(await site.shell('cat one.py'), '1\n');
  // What is dead is no copy of the new one.
  await site.must('unmount', site.dir);
});

copyTest('over itself: named, and --force leaves nothing of it', async (site) => {
  mountProgram('mount', '--bind', site.dir, site.dir);
  await site.fails(['unmount', site.dir], 12, /is also mounted over/, { timeoutMs: SOON_MS });
  const { code, stderr } = await site.try(['unmount', '--force', site.dir], { timeoutMs: SOON_MS });
  assert.equal(code, 0, stderr);
  assert.ok(!site.isMounted);
});

copyTest('another mount namespace: unmount says who, and --force afterwards ends the daemon', async (site) => {
  const other = await seesItsOwnMounts(site);
  try {
    const who = new RegExp(`is unmounted, but still served: .*${site.dir} as sleep \\(${other.pid}\\) sees it`);
    await site.fails(['unmount', site.dir], 12, who, { timeoutMs: SOON_MS });
    assert.ok(!site.isMounted);
    await site.fails(['mount', site.dir], 10, /is in use by another siteswap daemon/);
    const { code, stderr } = await site.try(['unmount', '--force', site.dir], { timeoutMs: SOON_MS });
    assert.deepEqual([code, stderr], [0, `ended the daemon of ${site.dir}, which was unmounted before\n`]);
    await site.must('mount', site.dir);
  } finally {
    other.kill();
  }
  await site.must('unmount', '--force', site.dir);
  await site.fails(['unmount', '--force', site.dir], 7, /is not mounted over/);
});

copyTest(
  'another mount namespace: --force cuts it off; without it, it ends with the last who sees it',
  async (site) => {
    const [first, second] = [await seesItsOwnMounts(site), await seesItsOwnMounts(site)];
    try {
      const forced = await site.try(['unmount', '--force', site.dir], { timeoutMs: SOON_MS });
      assert.equal(forced.code, 0, forced.stderr);
      await site.must('mount', site.dir);
    } finally {
      for (const process of [first, second]) process.kill();
    }
    const third = await seesItsOwnMounts(site);
    try {
      await site.fails(['unmount', site.dir], 12, /still served/, { timeoutMs: SOON_MS });
    } finally {
      third.kill();
    }
    await site.untilNoDaemon();
  },
);
