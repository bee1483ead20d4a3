/**
 * The table of checks (`posix_checks.py`) on a plain directory, then on a mount: in a transaction over the lower, after its
 * commit in a second one over what the first committed; with everything on and with features switched off.
 * After the first commit a reader sees exactly what the transaction saw, after the second what the plain directory has. The
 * lower is the same at the end, to the last ctime.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

import type { Feature } from '../../src/native/binding.js';
import { EngineMount } from '../helpers/engine-mount.js';
import {
  type CheckResult,
  differences,
  makeWorkplace,
  python,
  runChecks,
  type Tree,
  treeOf,
  without,
} from './python.js';

async function report(t: TestContext, results: CheckResult[]): Promise<void> {
  for (const { name, error } of results) {
    await t.test(name, () => assert.equal(error, null));
  }
}

/** The plain directory after both runs. */
let expected: Tree = {};

test('a plain directory', async (t) => {
  const place = makeWorkplace();
  try {
    await python('posix_checks.py', ['prepare', place.directory, '1']);
    await report(t, await runChecks(place.directory, '1', ['--next', '2']));
    await report(t, await runChecks(place.directory, '2', ['--next', '3']));
    expected = without('mtime', await treeOf(place.directory, { whole: false }));
  } finally {
    place.remove();
  }
});

const SETTINGS: (readonly Feature[])[] = [
  [],
  ['epoch'],
  ['no-open'],
  ['readdirplus'],
  ['pidfd-info', 'resend'],
  ['epoch', 'no-open', 'readdirplus'],
];

for (const disable of SETTINGS) {
  test(`a mount${disable.length > 0 ? ` without ${disable.join(', ')}` : ''}`, async (t) => {
    const place = makeWorkplace();
    const seen = (tag: string) => JSON.parse(readFileSync(join(place.base, `tree-${tag}`), 'utf8')) as Tree;
    let mount: EngineMount | null = null;
    try {
      await python('posix_checks.py', ['prepare', place.directory, '1']);
      const lower = await treeOf(place.directory, { whole: true });
      mount = await EngineMount.open({ directory: place.directory, store: place.store, disable });
      for (const feature of disable) assert.ok(!mount.features.includes(feature), `${feature} is in use`);

      for (const [tag, next] of [
        ['1', '2'],
        ['2', '3'],
      ] as const) {
        // The second one does not look at the whole tree at the end: names that nobody looked at are a case of their own.
        const options = ['--next', next, ...(tag === '1' ? ['--tree', join(place.base, `tree-${tag}`)] : [])];
        const results = await runChecks(place.directory, tag, options);
        await t.test(`transaction ${tag}`, async (inner) => report(inner, results));
        await t.test(`what transaction ${tag} committed`, async () => {
          const { generation, error, conflicts } = await mount!.settled();
          assert.deepEqual(
            { generation, error, conflicts },
            { generation: Number(tag), error: undefined, conflicts: [] },
          );
          const tree = await treeOf(place.directory, { whole: false });
          if (tag === '1') assert.deepEqual(differences(seen(tag), tree), []);
          else assert.deepEqual(differences(expected, without('mtime', tree)), []);
        });
      }
      await t.test('the lower is unchanged', async () => {
        assert.deepEqual(differences(lower, await treeOf(mount!.lowerPath, { whole: true })), []);
      });
      assert.deepEqual(await mount.close(), []);
      assert.deepEqual(differences(lower, await treeOf(place.directory, { whole: true })), []);
      assert.deepEqual(mount.log, []);
    } finally {
      await mount?.close();
      place.remove();
    }
  });
}
