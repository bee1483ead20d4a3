/**
 * Users without rights, and hosts that lack something: each its own exit code, and nothing is changed. The host's own
 * /dev/fuse is never touched: every case runs in a mount namespace of its own.
 */
import assert from 'node:assert/strict';
import { chmodSync, chownSync, copyFileSync, mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { findInPath } from '../../src/cli/host.js';
import { assertRefused, MountedSite, needsFuse, notRun, SITESWAP } from '../helpers/mounted-site.js';
import { inNamespace, namespaceProblem, ordinaryUserProblem, ORDINARY_UID } from '../helpers/private-namespace.js';

const quoted = SITESWAP.map((word) => `'${word}'`).join(' ');

/** A directory of the ordinary user's. */
function ownSite(t: TestContext): MountedSite {
  const site = MountedSite.make(t);
  for (const path of [site.work, site.dir, join(site.dir, 'pkg'), join(site.dir, 'one.py')]) {
    chownSync(path, ORDINARY_UID, ORDINARY_UID);
  }
  site.acceptLower();
  return site;
}

async function refused(site: MountedSite, script: string, code: number, message: RegExp): Promise<void> {
  const before = site.snapshot();
  assertRefused(await inNamespace(site.work, `${script} ${quoted} mount "$DIR"`, { DIR: site.dir }), code, message);
  assert.deepEqual(site.snapshot(), before);
  await site.untilNoDaemon();
}

for (const [what, script] of [
  ['is not there', 'mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/urandom c 1 9;'],
  ['is a plain file', 'touch "$WORK/plain"; mount --bind "$WORK/plain" /dev/fuse;'],
  ['is no FUSE device', 'mount --bind /dev/null /dev/fuse;'],
] as const) {
  test(`6: /dev/fuse ${what}`, needsFuse, async (t) => {
    const problem = namespaceProblem();
    if (problem !== null) return notRun(t, problem);
    const site = MountedSite.make(t);
    return refused(site, script, 6, /\/dev\/fuse/);
  });
}

test('5: an ordinary user who may not open /dev/fuse', needsFuse, async (t) => {
  const site = ownSite(t);
  const problem = await ordinaryUserProblem(site.work);
  if (problem !== null) return notRun(t, problem);
  return refused(site, 'device 0600; ordinary', 5, /\/dev\/fuse can't be opened: EACCES/);
});

test('5: an ordinary user and a directory that he may not write to', needsFuse, async (t) => {
  const site = MountedSite.make(t);
  chmodSync(site.work, 0o755);
  const problem = await ordinaryUserProblem(site.work);
  if (problem !== null) return notRun(t, problem);
  return refused(site, 'device 0666; ordinary', 5, /you may not write to/);
});

test('6: an ordinary user without fusermount3', needsFuse, async (t) => {
  const site = ownSite(t);
  const problem = await ordinaryUserProblem(site.work);
  if (problem !== null) return notRun(t, problem);
  const bin = join(site.work, 'bin');
  mkdirSync(bin);
  for (const tool of ['env', 'sh']) symlinkSync(findInPath(tool)!, join(bin, tool));
  return refused(site, 'device 0666; ordinary env PATH="$WORK/bin"', 6, /fusermount3 is not installed/);
});

test('5: fusermount3 that may not mount', needsFuse, async (t) => {
  const site = ownSite(t);
  const fusermount = findInPath('fusermount3');
  const problem = (await ordinaryUserProblem(site.work)) ?? (fusermount ? null : 'there is no fusermount3');
  if (problem !== null) return notRun(t, problem);
  const bin = join(site.work, 'bin');
  mkdirSync(bin);
  copyFileSync(fusermount!, join(bin, 'fusermount3'));
  // Not setuid root any more.
  chmodSync(join(bin, 'fusermount3'), 0o755);
  return refused(site, 'device 0666; ordinary env PATH="$WORK/bin:$PATH"', 5, /no rights to mount over .*fusermount3/);
});

test('18: the store and the mount of another user', needsFuse, async (t) => {
  const site = MountedSite.make(t);
  chmodSync(site.work, 0o755);
  const problem = await ordinaryUserProblem(site.work);
  if (problem !== null) return notRun(t, problem);
  const asOther = async (command: string): Promise<void> => {
    const ran = await inNamespace(site.work, `ordinary ${quoted} ${command} "$DIR"`, { DIR: site.dir });
    assertRefused(ran, 18, /no access to the store/);
  };
  await site.must('mount', site.dir);
  for (const command of ['status', 'begin', 'unmount', 'unmount --force', 'unmount --purge', 'log']) {
    await asOther(command);
  }
  await site.must('unmount', site.dir);
  for (const command of ['unmount --purge', 'log']) await asOther(command);
  assert.ok(site.snapshot().store);
});
