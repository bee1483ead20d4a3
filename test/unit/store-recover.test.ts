import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { COMMIT_STEPS } from '../../src/txn/commit.js';
import { StoreLayout } from '../../src/store/layout.js';
import { TRANSACTION_SPAN } from '../../src/util/limits.js';
import { testProgram } from '../helpers/built.js';
import { openStore, temporaryDirectory, tree } from '../helpers/fake-store.js';

const run = promisify(execFile);
const script = testProgram('commit-and-crash');

async function commitAndCrash(root: string, at: string, ...words: string[]): Promise<{ signal: unknown; out: string }> {
  try {
    const { stdout } = await run(process.execPath, [script, root, ...words], {
      env: { ...process.env, SITESWAP_CRASH_AT: at },
    });
    return { signal: null, out: stdout };
  } catch (error) {
    const { signal, stderr } = error as { signal: string | null; stderr: string };
    assert.equal(signal, 'SIGKILL', stderr);
    return { signal, out: '' };
  }
}

const POINTS = [...COMMIT_STEPS, 'sync-layer:synced', 'write-generation:manifest', 'released'];
const AFTER_HEAD = new Set<string>(['swap', 'release', 'released']);

for (const point of POINTS) {
  for (const kept of [false, true]) {
    test(`killed at ${point}${kept ? ', of a transaction that was kept' : ''}: old or new, nothing between, nothing left`, async (t) => {
      const root = join(temporaryDirectory(t), 'store');
      (await openStore(root)).close();
      const { signal } = await commitAndCrash(root, point, ...(kept ? ['keep'] : []));
      assert.equal(signal, 'SIGKILL');

      const store = await openStore(root);
      await store.recover();
      const committed = AFTER_HEAD.has(point);
      assert.equal(store.head, committed ? 1 : 0);
      const id = TRANSACTION_SPAN;
      const expected = ['HEAD', 'format', 'generations', 'layers', 'lock', 'manifests', 'starts', 'transactions'];
      for (let generation = 0; generation <= store.head; generation++) {
        expected.push(`generations/${generation}.json`, `manifests/${generation}.manifest`);
      }
      if (committed) expected.push(`layers/${id}`, `layers/${id}/1`);
      else if (kept) {
        const transaction = `transactions/${id}`;
        expected.push(
          transaction,
          ...['bodies', 'bodies/1', 'info.json', 'journal'].map((name) => `${transaction}/${name}`),
        );
      }
      assert.deepEqual(await tree(root), expected.sort());
      assert.deepEqual(await store.recover(), { restore: [], delete: [] });
      assert.deepEqual(
        (await store.history()).map(({ generation }) => generation),
        committed ? [1, 0] : [0],
      );
      store.close();

      // Life goes on.
      assert.equal((await commitAndCrash(root, '')).out, 'committed');
      const next = await openStore(root);
      assert.equal(next.head, committed ? 2 : 1);
      next.close();
    });
  }
}

test('killed while recovering: recovery is done again', async (t) => {
  const root = join(temporaryDirectory(t), 'store');
  const store = await openStore(root);
  const { layout } = store;
  const orphans = [layout.layer(7), layout.layer(8)];
  for (const orphan of orphans) mkdirSync(orphan);
  writeFileSync(layout.manifest(1), 'orphan');
  writeFileSync(layout.generation(1), 'orphan');
  writeFileSync(join(layout.root, '.tmp-HEAD-1-1'), 'half');
  mkdirSync(layout.transaction(9));
  const recovery = await store.recover();
  assert.equal(recovery.delete.length, 6);
  for (const path of recovery.delete) assert.ok(!existsSync(path), path);
  store.close();
});

test('a history that can not be read deletes nothing', async (t) => {
  const root = join(temporaryDirectory(t), 'store');
  (await openStore(root)).close();
  await commitAndCrash(root, '');
  const layout = new StoreLayout(root);
  const text = await readFile(layout.generation(1), 'utf8');
  await writeFile(layout.generation(1), text.slice(0, 20));
  const before = await tree(root);
  const store = await openStore(root);
  await assert.rejects(store.recover(), { code: 'STORE_DAMAGED', exitCode: 9 });
  assert.deepEqual(await tree(root), before);
  store.close();
});
