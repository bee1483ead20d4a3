/** The scripts of mount-scripts/ that users call: their arguments, and that only dead mounts are removed. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { listMounts } from '../../src/daemon/mountinfo.js';

function run(command: string, ...args: string[]): { code: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', timeout: 60_000 });
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

test('clean-stale-mounts removes a mount whose store nobody has locked', { skip: !canMount }, (t) => {
  const work = mkdtempSync(join(tmpdir(), 'siteswap-stale-'));
  const [directory, store] = [join(work, 'site packages'), join(work, 'store')];
  mkdirSync(directory);
  mkdirSync(store);
  writeFileSync(join(directory, 'original'), '');
  writeFileSync(join(store, 'lock'), '');
  t.after(() => {
    spawnSync('umount', ['-l', directory]);
    rmSync(work, { recursive: true });
  });
  const isMounted = (): boolean => listMounts().some(({ mountpoint }) => mountpoint === directory);
  const { code, stderr } = run('python3', '-c', DIE_AFTER_MOUNT, directory, store);
  assert.equal(code, 0, stderr);
  assert.ok(isMounted());

  // While somebody holds the lock it is alive.
  const guarded = run('flock', join(store, 'lock'), 'mount-scripts/clean-stale-mounts', '--dry-run');
  assert.ok(!guarded.stdout.includes(directory));
  assert.match(run('mount-scripts/clean-stale-mounts', '--dry-run').stdout, /^stale: .*site packages$/m);
  assert.ok(isMounted());

  assert.match(run('mount-scripts/clean-stale-mounts').stdout, /^removed: .*site packages$/m);
  assert.ok(!isMounted());
  assert.deepEqual(readdirSync(directory), ['original']);
});
