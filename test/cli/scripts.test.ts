/** The scripts of mount-scripts/ that users call: their arguments, and that only dead mounts are removed. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { listMounts } from '../../src/daemon/mountinfo.js';

function run(command: string, ...args: string[]): { code: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', timeout: 120_000 });
  return { code: status, stdout, stderr };
}

test('setup refuses what it does not know', () => {
  const { code, stderr } = run('mount-scripts/setup', '--for=fun');
  assert.equal(code, 2);
  assert.match(stderr, /^error: unknown argument --for=fun\nhint: /);
});

test('check-host ends with 0 or 6', () => {
  const { code, stdout } = run('mount-scripts/check-host');
  assert.ok(code === 0 || code === 6, stdout);
  assert.equal(code === 6, /^FAIL/m.test(stdout));
});

test('mount.siteswap: mount(8) calls it with -n, -v, -o; a wrong call is 1, a failed mount 32', () => {
  const script = 'mount-scripts/mount.siteswap';
  assert.equal(run(script, 'x').code, 1);
  const unknown = run(script, '/x', '/x', '-o', 'rw,frob=1');
  assert.equal(unknown.code, 1);
  assert.match(unknown.stderr, /^error: unknown mount option frob=1\n/);
  assert.equal(run(script, '/x', '/x', '-s', '-f', '-o', 'frob=1').code, 0);
  assert.equal(run(script, '/x', '/x', '-f', '-n', '-v', '-o', 'defaults,nofail,x-systemd.automount,store=/y').code, 0);
  const missing = run(script, '/nonexistent/x', '/nonexistent/x', '-o', 'verify=record');
  assert.equal(missing.code, 32);
  assert.match(missing.stderr, /^error: \/nonexistent does not exist\n/);
});

const canMount = process.geteuid?.() === 0 && existsSync('/dev/fuse') && process.env['SITESWAP_TEST_SKIP_FUSE'] !== '1';

/** Mounts over `directory` as siteswap would, with nobody to serve it, and lets the process die. */
const DIE_AFTER_MOUNT = `
import ctypes, os, sys
directory, store = sys.argv[1:]
device = os.open('/dev/fuse', os.O_RDWR)
options = f'fd={device},rootmode=40000,user_id=0,group_id=0'.encode()
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(store.encode(), directory.encode(), b'fuse.siteswap', 0, options) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
`;

const CLEAN = 'mount-scripts/clean-stale-mounts';

test('clean-stale-mounts refuses what it does not know', () => {
  const { code, stderr } = run(CLEAN, '--force');
  assert.equal(code, 2);
  assert.match(stderr, /^error: unknown argument '--force'\nhint: /);
});

/** Each call names the directory of this test: other tests beside it have dead mounts of their own. */
test('clean-stale-mounts removes all mounts whose store nobody has locked', { skip: !canMount }, (t) => {
  const work = mkdtempSync(join(tmpdir(), 'siteswap-stale-'));
  const store = join(work, 'store');
  mkdirSync(store);
  writeFileSync(join(store, 'lock'), '');
  const directories = Array.from({ length: 12 }, (_, i) => join(work, `site packages ${i}`));
  t.after(() => {
    for (const directory of directories) spawnSync('umount', ['-l', directory]);
    rmSync(work, { recursive: true });
  });
  for (const directory of directories) {
    mkdirSync(directory);
    writeFileSync(join(directory, 'original'), '');
    const { code, stderr } = run('python3', '-c', DIE_AFTER_MOUNT, directory, store);
    assert.equal(code, 0, stderr);
  }
  const mounted = (): string[] => {
    const now = new Set(listMounts().map(({ mountpoint }) => mountpoint));
    return directories.filter((directory) => now.has(directory));
  };
  const report = (word: string, of: string[]): string => of.map((directory) => `${word}: ${directory}\n`).join('');
  assert.deepEqual(mounted(), directories);

  // While somebody holds the lock they are alive.
  assert.equal(run('flock', join(store, 'lock'), CLEAN, '--dry-run', work).stdout, '');
  assert.equal(run(CLEAN, '--dry-run', work).stdout, report('stale', directories));
  assert.deepEqual(mounted(), directories);

  const [first, ...others] = directories as [string, ...string[]];
  assert.equal(run(CLEAN, first).stdout, report('removed', [first]));
  assert.deepEqual(mounted(), others);
  assert.equal(run(CLEAN, `${work}/`).stdout, report('removed', others));
  assert.deepEqual(mounted(), []);
  for (const directory of directories) assert.deepEqual(readdirSync(directory), ['original']);
});
