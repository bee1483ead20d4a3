/** What a user can get wrong before anything is mounted: each its own exit code, and nothing is changed. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { siteswap } from './run-cli.js';

let work: string;
before(() => {
  work = realpathSync(mkdtempSync(join(tmpdir(), 'siteswap-cli-')));
  mkdirSync(join(work, 'site'));
  writeFileSync(join(work, 'file'), '');
  symlinkSync('loop', join(work, 'loop'));
  symlinkSync('nowhere', join(work, 'dangling'));
  symlinkSync('site', join(work, 'link'));
});
after(() => rmSync(work, { recursive: true }));

async function fails(args: string[], code: number, message: RegExp): Promise<void> {
  const names = readdirSync(work);
  const result = await siteswap(args);
  assert.equal(result.code, code, result.stderr);
  assert.match(result.stderr, message);
  assert.equal(result.stdout, '');
  assert.deepEqual(readdirSync(work), names);
}

test('mount: DIR is missing', () => fails(['mount', join(work, 'none')], 3, /^error: .*\/none does not exist\nhint: /));
test('mount: its parent is missing', () => fails(['mount', join(work, 'no/ne')], 3, /^error: .*\/no does not exist\n/));
test('mount: DIR is a file', () => fails(['mount', join(work, 'file')], 3, /^error: .*\/file is not a directory\n/));
test('mount: below a file', () => fails(['mount', join(work, 'file/x')], 3, /is not a directory\n/));
test('mount: a link to nothing', () => fails(['mount', join(work, 'dangling')], 3, /\/nowhere does not exist\n/));
test('mount: a link to itself', () => fails(['mount', join(work, 'loop')], 3, /too many symbolic links\n/));
test('mount: the store inside of DIR', () =>
  fails(['mount', join(work, 'site'), '--store', join(work, 'site/store')], 2, /would be hidden by the mount\nhint: /));

for (const command of ['unmount', 'status', 'log', 'wait', 'begin', 'commit', 'abort']) {
  test(`${command}: not mounted, and a link is followed`, () =>
    fails([command, join(work, 'link')], 7, /^error: siteswap is not mounted over .*\/site\nhint: siteswap mount /));
}

test('run: not mounted: the command is not started', async () => {
  await fails(['run', join(work, 'site'), '--', 'touch', join(work, 'started')], 7, /is not mounted over/);
});
