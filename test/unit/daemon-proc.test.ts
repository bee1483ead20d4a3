import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findHolders, mappedPaths } from '../../src/daemon/holders.js';
import { copiesAmong } from '../../src/daemon/mount-copies.js';
import { findMount, parseMountedOn, parseMountinfo } from '../../src/daemon/mountinfo.js';
import { printable, terminalOf, terminalPath } from '../../src/daemon/terminal.js';
import { temporaryDirectory } from '../helpers/fake-store.js';

const MOUNTINFO = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:51 / /venv/lib/site-packages rw,nosuid shared:7 master:2 - fuse.siteswap /venv/lib/.site-packages.siteswap rw
41 22 0:52 / /home/a\\040b/\\134c rw - fuse.siteswap /tmp/s\\011t rw,user_id=0
42 22 0:53 / /other rw - fuse.sshfs host:/ rw
`;

test('siteswap mounts are found in the mount table', () => {
  const mounts = parseMountinfo(MOUNTINFO);
  assert.deepEqual(mounts, [
    { mountpoint: '/venv/lib/site-packages', store: '/venv/lib/.site-packages.siteswap', device: '0:51' },
    { mountpoint: '/home/a b/\\c', store: '/tmp/s\tt', device: '0:52' },
  ]);
  assert.equal(findMount('/venv/lib/site-packages', mounts)?.device, '0:51');
  assert.equal(findMount('/venv/lib/site-packages/numpy', mounts)?.device, '0:51');
  assert.equal(findMount('/venv/lib/site-packages-2', mounts), null);
  assert.equal(findMount('/', mounts), null);
});

test('of two mounts over one directory the later one is meant', () => {
  const line = (device: string, at: string): string => `1 1 ${device} / ${at} rw - fuse.siteswap /s rw`;
  const mounts = parseMountinfo([line('0:1', '/a'), line('0:2', '/a'), line('0:3', '/a/b')].join('\n'));
  assert.equal(findMount('/a/c', mounts)?.device, '0:2');
  assert.equal(findMount('/a/b/c', mounts)?.device, '0:3');
});

test('copies of a mount: the same device in other places, or once more in the same one', () => {
  const line = (device: string, at: string, store = '/s'): string =>
    `1 1 ${device} / ${at} rw - fuse.siteswap ${store} rw`;
  const copies = (...lines: string[]): string[] =>
    copiesAmong(parseMountinfo(lines.join('\n')), { directory: '/a', store: '/s' });
  assert.deepEqual(copies(line('0:1', '/a')), []);
  assert.deepEqual(copies(line('0:1', '/a'), line('0:2', '/b', '/t'), line('0:1', '/c'), line('0:1', '/a')), [
    '/c',
    '/a',
  ]);
  assert.deepEqual(copies(line('0:1', '/dead'), line('0:2', '/a')), []);
  assert.deepEqual(copies(line('0:1', '/c')), []);
});

test('only terminals are written to', () => {
  assert.equal(terminalPath('/dev/pts/3'), '/dev/pts/3');
  assert.equal(terminalPath('/dev/tty1'), '/dev/tty1');
  for (const link of [
    '/dev/sda1',
    '/dev/pts/../sda',
    'pipe:[1]',
    '/tmp/dev/pts/1',
    '/dev/null',
    '/dev/pts/3 (deleted)',
  ]) {
    assert.equal(terminalPath(link), null, link);
  }
  assert.equal(terminalOf(2 ** 22 + 1), null);
});

test('nothing that a terminal would obey is written', () => {
  assert.equal(printable('\u001b]0;x\u0007 a\nb\u009b é'), '?]0;x? a?b? é');
});

test('who holds a directory is found', (t) => {
  const directory = temporaryDirectory(t);
  const before = process.cwd();
  process.chdir(directory);
  t.after(() => process.chdir(before));
  assert.deepEqual(
    findHolders(directory).map(({ pid, how }) => ({ pid, how })),
    [{ pid: process.pid, how: 'cwd' }],
  );
  assert.deepEqual(mappedPaths('7f00-7f01 r-xp 00000000 00:33 12   /venv/a b.so\n7f02-7f03 rw-p 0 00:00 0 \n'), [
    '/venv/a b.so',
  ]);
});

test('what is mounted on a mount of ours, and not what lies under it', () => {
  const lines = [
    '20 1 8:1 / / rw - ext4 /dev/sda rw',
    '21 20 0:30 / /a/under rw - tmpfs none rw',
    '22 20 0:31 / /a rw - fuse.siteswap /s rw',
    '23 22 0:32 / /a/on\\040it rw - tmpfs none rw',
    '24 23 0:33 / /a/on\\040it/deeper rw - tmpfs none rw',
  ];
  assert.deepEqual(parseMountedOn(lines.join('\n'), '/a'), ['/a/on it']);
  assert.deepEqual(parseMountedOn(lines.join('\n'), '/b'), []);
});
