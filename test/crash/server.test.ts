/**
 * The server is killed with SIGKILL at each named step of a commit, on a real mount, and the next keeper inside of the
 * recovery that follows: afterwards HEAD is the old or the new generation, whole, and recovering again changes nothing.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { COMMIT_STEPS } from '../../src/txn/commit.js';
import { MountedSite } from '../helpers/mounted-site.js';
import { diffTrees, listTree, type TreeListing } from '../helpers/tree-hash.js';
import { runProgram } from '../helpers/venv.js';

const POINTS = [...COMMIT_STEPS, 'sync-layer:synced', 'write-generation:manifest', 'released'] as const;
const AFTER_HEAD: ReadonlySet<string> = new Set(['swap', 'release', 'released']);
const RECOVERY_POINTS = ['recover', 'recover-restored', 'recover-deleted-one'] as const;

/** One process, so one transaction: adds, changes, renames. The times are fixed, so that two runs can be compared. */
const INSTALL = `
import os, sys
os.chdir(sys.argv[1])
os.mkdir('new')
for name in ['new/__init__.py', 'pkg/__init__.py']:
    with open(name, 'w') as file:
        file.write('VERSION = 2\\n')
os.rename('one.py', 'two.py')
os.symlink('two.py', 'link')
for name in ['new/__init__.py', 'pkg/__init__.py', 'link']:
    os.utime(name, (1500000000, 1500000000), follow_symlinks=False)
`;

/** The mount may end under its feet. */
async function install({ dir }: MountedSite): Promise<void> {
  await runProgram('python3', ['-c', INSTALL, dir], { timeoutMs: 100_000 });
}

/** Directories get a time of the commit's own, and files that stay keep theirs, which differ from test to test. */
function comparable(listing: TreeListing): string[] {
  return [...listing].map(([path, line]) =>
    line.startsWith('directory') || path === 'two.py' ? `${path} ${line.replace(/mtime=\d+/, '')}` : `${path} ${line}`,
  );
}

let wholeInstall: Promise<string[]> | null = null;

/** The new generation, as a commit that nobody disturbs makes it. */
function installed(t: TestContext): Promise<string[]> {
  wholeInstall ??= (async () => {
    const site = await MountedSite.mounted(t);
    await install(site);
    await site.must('wait', site.dir);
    return comparable(await site.listing());
  })();
  return wholeInstall;
}

/** What a recovery could touch: not what every start of a server changes. */
function storeListing({ store }: MountedSite): TreeListing {
  const perStart = /^(server\.log|control\.sock|session\.json|starts|live(\/.*)?)$/;
  const listing = listTree(store, { ignore: (path) => perStart.test(path) });
  // Its own time changes with the names above.
  listing.delete('');
  return listing;
}

/** More or less than HEAD names. */
function unexpected({ store }: MountedSite): string[] {
  const head = Number(readFileSync(join(store, 'HEAD'), 'utf8'));
  const wanted = { manifests: head + 1, generations: head + 1, layers: head, transactions: 0 };
  return Object.entries(wanted).flatMap(([folder, count]) => {
    const names = readdirSync(join(store, folder));
    return names.length === count ? [] : [`${folder}: ${names.join(' ')}, and HEAD is ${head}`];
  });
}

for (const point of POINTS) {
  test(`the server is killed at ${point}`, async (t) => {
    const whole = await installed(t);
    const site = MountedSite.make(t);
    const original = listTree(site.dir);
    const mountAt = (crash: string) => site.try(['mount', site.dir], { env: { SITESWAP_CRASH_AT: crash } });

    if (point === 'write-generation:manifest') {
      // The first mount writes a generation too, of what it has scanned.
      assert.notEqual((await mountAt(point)).code, 0);
      await site.must('mount', site.dir);
      await site.must('unmount', site.dir);
    }
    assert.equal((await mountAt(point)).code, 0);
    await install(site);
    await site.untilNoDaemon();
    assert.ok(site.isMounted, 'a dead mount does not show the original by itself');
    await site.must('unmount', '--force', site.dir);
    site.assertLowerUntouched();

    let killed = 0;
    for (const inside of RECOVERY_POINTS) {
      const { code } = await mountAt(inside);
      if (code === 0) await site.must('unmount', site.dir);
      else killed++;
      assert.equal(site.isMounted, false);
    }
    assert.ok(killed >= 2, 'recovery was interrupted');

    await site.must('mount', site.dir);
    const seen = await site.listing();
    const committed = AFTER_HEAD.has(point);
    if (committed) assert.deepEqual(comparable(seen), whole);
    else assert.deepEqual(diffTrees(original, seen), []);
    await site.must('unmount', site.dir);
    assert.deepEqual(unexpected(site), []);
    site.assertLowerUntouched();

    const recovered = storeListing(site);
    await site.must('mount', site.dir);
    assert.deepEqual(diffTrees(recovered, storeListing(site)), [], 'a second recovery changes nothing');
    assert.deepEqual(diffTrees(seen, await site.listing()), []);
    if (committed) return;
    // Life goes on.
    await install(site);
    assert.equal(await site.must('wait', site.dir), '1\n');
    assert.deepEqual(comparable(await site.listing()), whole);
  });
}
