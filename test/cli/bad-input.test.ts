/**
 * What can be wrong with a mount that is asked for: each its own exit code, one line that says what is wrong, one that
 * says what to do, and nothing is changed: neither the directory nor the store, to the nanosecond.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { MountedSite, needsFuse } from '../helpers/mounted-site.js';

/** Unmounted, with a store of two generations. */
async function withStore(t: TestContext): Promise<MountedSite> {
  const site = await MountedSite.mounted(t);
  await site.must('run', site.dir, '--', 'touch', join(site.dir, 'two.py'));
  await site.must('unmount', site.dir);
  return site;
}

async function refused(site: MountedSite, code: number, message: RegExp, ...options: string[]): Promise<void> {
  const before = site.snapshot();
  await site.fails(['mount', ...options, site.dir], code, message);
  assert.deepEqual(site.snapshot(), before);
  assert.ok(!site.isMounted);
  await site.untilNoDaemon();
}

test('3: DIR is missing, is a file', needsFuse, async (t) => {
  const site = MountedSite.make(t);
  await site.fails(['mount', join(site.work, 'none')], 3, /none does not exist/);
  await site.fails(['mount', join(site.dir, 'one.py')], 3, /one\.py is not a directory/);
  assert.equal(site.snapshot().store, null);
});

test('4: already mounted: itself, by a link, below, and over what holds it', needsFuse, async (t) => {
  const site = await MountedSite.mounted(t);
  const before = await site.hash();
  symlinkSync(site.dir, join(site.work, 'link'));
  await site.fails(['mount', site.dir], 4, /already mounted over .*site packages\n/);
  await site.fails(['mount', join(site.work, 'link')], 4, /already mounted over .*site packages\n/);
  await site.fails(['mount', join(site.dir, 'pkg')], 4, /already mounted over .*site packages,/);
  await site.fails(['mount', site.work], 4, /already mounted over .*site packages,/);
  assert.equal(await site.hash(), before);
  rmSync(join(site.work, 'link'));
});

test('5: a store that others may read', needsFuse, async (t) => {
  const site = MountedSite.make(t);
  mkdirSync(site.store, { mode: 0o755 });
  await refused(site, 5, /is open to other users\nhint: chmod 0700/);
});

const OTHER_FORMATS: [string, (format: { version: number; flags: string[] }) => void, RegExp][] = [
  ['version', (format) => (format.version = 7), /has version 7, and this siteswap knows version 1/],
  ['flag', (format) => format.flags.push('frob'), /has flag frob/],
];
for (const [what, change, message] of OTHER_FORMATS) {
  test(`8: a store of an unknown ${what}`, needsFuse, async (t) => {
    const site = await withStore(t);
    const path = join(site.store, 'format');
    const format = JSON.parse(readFileSync(path, 'utf8')) as { version: number; flags: string[] };
    change(format);
    writeFileSync(path, JSON.stringify(format));
    await refused(site, 8, message);
    await site.fails(['log', site.dir], 8, message);
  });
}

const DAMAGE: [string, (store: string) => void][] = [
  ['a manifest that is cut at half', (store) => cutAt(join(store, 'manifests/0.manifest'), 0.5)],
  ['a manifest that lacks a byte', (store) => cutAt(join(store, 'manifests/1.manifest'), -1)],
  ['an empty manifest', (store) => truncateSync(join(store, 'manifests/1.manifest'))],
  ['no manifest', (store) => rmSync(join(store, 'manifests/0.manifest'))],
  ['another manifest', (store) => cpSync(join(store, 'manifests/0.manifest'), join(store, 'manifests/1.manifest'))],
  ['a generation that is cut', (store) => cutAt(join(store, 'generations/1.json'), 0.5)],
  ['a HEAD of rubbish', (store) => writeFileSync(join(store, 'HEAD'), 'master\n')],
  ['no HEAD', (store) => rmSync(join(store, 'HEAD'))],
  ['a HEAD that names no generation', (store) => writeFileSync(join(store, 'HEAD'), '9\n')],
  ['a format that is cut', (store) => cutAt(join(store, 'format'), 0.5)],
  ['no format', (store) => rmSync(join(store, 'format'))],
  ['no starts', (store) => rmSync(join(store, 'starts'))],
  ['starts of rubbish', (store) => writeFileSync(join(store, 'starts'), '-1\n')],
];

/** `where`: a part of the size, or so many bytes from the end. */
function cutAt(path: string, where: number): void {
  const { size } = statSync(path);
  truncateSync(path, where < 0 ? size + where : Math.floor(size * where));
}

test('9: a damaged store', needsFuse, async (t) => {
  const site = await withStore(t);
  const whole = join(site.work, 'whole');
  cpSync(site.store, whole, { recursive: true, preserveTimestamps: true });
  for (const [what, damage] of DAMAGE) {
    await t.test(what, async () => {
      rmSync(site.store, { recursive: true });
      cpSync(whole, site.store, { recursive: true, preserveTimestamps: true });
      damage(site.store);
      await refused(site, 9, /siteswap/);
    });
  }
  rmSync(site.store, { recursive: true });
});

test('9: a store that is none: a file, a directory of somebody else', needsFuse, async (t) => {
  const site = MountedSite.make(t);
  const [file, foreign] = [join(site.work, 'file'), join(site.work, 'foreign')];
  writeFileSync(file, '');
  mkdirSync(foreign, { mode: 0o700 });
  writeFileSync(join(foreign, 'thesis.tex'), '');
  await refused(site, 9, /file is not a directory/, '--store', file);
  await refused(site, 9, /foreign is no siteswap store: .* but thesis\.tex/, '--store', foreign);
});

test('10: a store that another daemon uses', needsFuse, async (t) => {
  const [site, other] = [await MountedSite.mounted(t), MountedSite.make(t)];
  const before = await site.hash();
  await other.fails(['mount', '--store', site.store, other.dir], 10, /is in use by another siteswap daemon/);
  assert.equal(await site.hash(), before);
  assert.equal(other.snapshot().store, null);
});

test('10: a store whose lock somebody holds is not mounted, and not purged', needsFuse, async (t) => {
  const site = await withStore(t);
  const holder = spawn('flock', [join(site.store, 'lock'), 'sh', '-c', 'echo locked; read end'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.after(() => holder.kill());
  await once(holder.stdout, 'data');
  await refused(site, 10, /is in use by another siteswap daemon/);
  const before = site.snapshot();
  await site.fails(['unmount', '--purge', site.dir], 10, /is in use: not deleted/);
  assert.deepEqual(site.snapshot(), before);
});

const CHANGES: [string, (dir: string) => void][] = [
  ['a file has other bytes', (dir) => writeFileSync(join(dir, 'one.py'), '2\n')],
  ['a file has another time', (dir) => utimesSync(join(dir, 'one.py'), 1, 1)],
  ['a file came', (dir) => writeFileSync(join(dir, 'pkg/new.py'), '')],
  ['a file went', (dir) => rmSync(join(dir, 'pkg/__init__.py'))],
];

test('11: the directory was changed behind the mount', needsFuse, async (t) => {
  const site = await withStore(t);
  const whole = join(site.work, 'whole');
  for (const [what, change] of CHANGES) {
    await t.test(what, async () => {
      // Renamed away and back it stays the same directory, to the inode number.
      cpSync(site.dir, whole, { recursive: true, preserveTimestamps: true });
      change(site.dir);
      site.acceptLower();
      await refused(site, 11, /changed behind the mount: .*(one|pkg)/);
      await site.must('unmount', '--purge', site.dir);
      assert.equal(site.snapshot().store, null);
      await site.must('mount', site.dir);
      await site.must('run', site.dir, '--', 'touch', join(site.dir, 'two.py'));
      await site.must('unmount', site.dir);
      rmSync(whole, { recursive: true });
    });
  }
  await t.test('another directory of the same name', async () => {
    renameSync(site.dir, whole);
    cpSync(whole, site.dir, { recursive: true, preserveTimestamps: true });
    site.acceptLower();
    await refused(site, 11, /belongs to another directory/);
  });
});

test('without commits, a changed directory is read again', needsFuse, async (t) => {
  const site = await MountedSite.mounted(t);
  await site.must('unmount', site.dir);
  writeFileSync(join(site.dir, 'one.py'), '22\n');
  site.acceptLower();
  const { code, stderr } = await site.try(['mount', site.dir]);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /one\.py .*: it is read again/);
  assert.equal(await site.shell('cat one.py'), '22\n');
});
