/**
 * A directory that is too large to be compared in full before it is mounted: what is found before, what in the background,
 * and that nothing of it is forgotten. It is not large: its store says so.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import * as v from 'valibot';
import { statusSchema } from '../../src/daemon/control-protocol.js';
import { ENTRIES_COMPARED_FIRST } from '../../src/util/limits.js';
import { MountedSite, needsFuse } from '../helpers/mounted-site.js';
import { until } from '../helpers/mounted-venv.js';

/** Unmounted; `committed`: with a generation besides the first. */
async function largeSite(t: TestContext, { committed }: { committed: boolean }): Promise<MountedSite> {
  const site = MountedSite.make(t);
  // Whole seconds, which Node can set again.
  utimesSync(join(site.dir, 'one.py'), 1_700_000_000, 1_700_000_000);
  site.acceptLower();
  await site.must('mount', site.dir);
  if (committed) await site.must('run', site.dir, '--', 'touch', join(site.dir, 'two.py'));
  await site.must('unmount', site.dir);
  const path = join(site.store, 'generations', '0.json');
  const base = JSON.parse(readFileSync(path, 'utf8')) as { entries: number };
  writeFileSync(path, JSON.stringify({ ...base, entries: ENTRIES_COMPARED_FIRST + 1 }));
  return site;
}

const note = (site: MountedSite): string => join(site.store, 'lower-changed');

async function untilHealth(site: MountedSite, wanted: RegExp): Promise<string> {
  let health: string[] = [];
  await until(`health says ${wanted}`, async () => {
    ({ health } = v.parse(statusSchema, await site.json('status', site.dir)));
    return health.some((line) => wanted.test(line));
  });
  return health.join('\n');
}

async function untilLogged(site: MountedSite, wanted: RegExp): Promise<void> {
  await until(`the log says ${wanted}`, () => wanted.test(readFileSync(join(site.store, 'server.log'), 'utf8')));
}

/** Changes a file in place, which leaves no trace in its directory; returns how to take that back. */
function changeInPlace(site: MountedSite): () => void {
  const path = join(site.dir, 'one.py');
  const { atime, mtime } = statSync(path);
  writeFileSync(path, '2222\n');
  return () => {
    writeFileSync(path, '1\n');
    utimesSync(path, atime, mtime);
  };
}

test('nothing was changed', needsFuse, async (t) => {
  const site = await largeSite(t, { committed: true });
  await site.must('mount', site.dir);
  await untilLogged(site, /the directory is as it was/);
  assert.deepEqual(v.parse(statusSchema, await site.json('status', site.dir)).health, []);
  assert.ok(!existsSync(note(site)));
  await site.must('unmount', site.dir);
});

test(
  'a file that was changed in place is found in the background, and the next mount is refused',
  needsFuse,
  async (t) => {
    const site = await largeSite(t, { committed: true });
    const undo = changeInPlace(site);
    await site.must('mount', site.dir);
    const health = await untilHealth(site, /changed behind the mount/);
    assert.match(health, /: one\.py modified \(.*undo the change and mount again, or .*--purge/);
    assert.ok(existsSync(note(site)));
    await untilLogged(site, /changed behind the mount: one\.py modified/);
    // A server that is killed takes nothing with it.
    for (const pid of site.daemons().server) process.kill(pid, 'SIGKILL');
    await site.untilNoDaemon();
    await site.must('unmount', '--force', '--lazy', site.dir);
    await site.fails(['mount', site.dir], 11, /changed behind the mount: one\.py modified$/m);
    await site.fails(['mount', site.dir], 11, /changed behind the mount: one\.py modified$/m);

    undo();
    await site.must('mount', site.dir);
    assert.ok(!existsSync(note(site)), 'all of it was compared');
    await site.must('unmount', site.dir);
  },
);

test('without commits, the next mount reads it again', needsFuse, async (t) => {
  const site = await largeSite(t, { committed: false });
  changeInPlace(site);
  site.acceptLower();
  await site.must('mount', site.dir);
  assert.match(
    await untilHealth(site, /changed behind the mount/),
    /: one\.py modified \(.*mount again: it is read anew/,
  );
  await site.must('unmount', site.dir);
  const { code, stderr } = await site.try(['mount', site.dir]);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /one\.py modified\): it is read again/);
  assert.ok(!existsSync(note(site)));
  assert.equal(await site.shell('cat one.py'), '2222\n');
});

test('a name that came is found before anything is mounted', needsFuse, async (t) => {
  const site = await largeSite(t, { committed: true });
  const directory = join(site.dir, 'pkg');
  const { atime, mtime } = statSync(directory);
  writeFileSync(join(directory, 'new.py'), '');
  utimesSync(directory, atime, new Date(mtime.getTime() + 1000));
  await site.fails(['mount', site.dir], 11, /changed behind the mount: pkg modified, pkg\/new\.py added$/m);
  assert.ok(!site.isMounted);
  rmSync(join(directory, 'new.py'));
  site.acceptLower();
});
