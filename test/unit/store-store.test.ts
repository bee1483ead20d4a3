import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { writeFileAtomic } from '../../src/store/atomic-fs.js';
import { defaultStorePath, numberOfName } from '../../src/store/layout.js';
import { TransactionNumbers } from '../../src/store/starts.js';
import { Store } from '../../src/store/store.js';
import { INO_SPAN, TRANSACTION_SPAN } from '../../src/util/limits.js';
import { LOWER, openStore, temporaryDirectory, tree } from '../helpers/fake-store.js';

test('a new store is private and opens again as it was left', async (t) => {
  const root = join(temporaryDirectory(t), 'store');
  const store = await openStore(root);
  assert.equal(store.head, 0);
  assert.equal(statSync(root).mode & 0o777, 0o700);
  store.close();
  const again = await openStore(root);
  assert.equal(again.scannedHead, 0);
  assert.equal((await again.generation(0)).entries, 3);
  again.close();
  assert.deepEqual((await Store.attach(root)).lower, LOWER);
});

test('the default store lies beside the directory', () => {
  assert.equal(defaultStorePath('/venv/lib/site-packages'), '/venv/lib/.site-packages.siteswap');
});

test('starts never repeat, and each owns its numbers', async (t) => {
  const store = await openStore(join(temporaryDirectory(t), 'store'));
  const first = await store.takeStart();
  const second = await store.takeStart();
  assert.equal(first.number, 1);
  assert.equal(first.firstIno, INO_SPAN);
  assert.equal(first.firstIno + first.inoCount, second.firstIno);
  assert.equal(first.firstTransaction + TRANSACTION_SPAN, second.firstTransaction);

  const numbers = new TransactionNumbers(second, () => store.takeStart());
  const taken = await Promise.all(Array.from({ length: TRANSACTION_SPAN + 2 }, () => numbers.next()));
  assert.equal(new Set(taken).size, taken.length);
  assert.equal(taken[0], second.firstTransaction);
  assert.equal((await store.takeStart()).number, 4);
  store.close();
});

test('a store in use by another daemon is refused', async (t) => {
  const root = join(temporaryDirectory(t), 'store');
  (await openStore(root)).close();
  await assert.rejects(
    Store.open(root, LOWER, () => false),
    { code: 'STORE_IN_USE', exitCode: 10 },
  );
});

test('a store of another version or with an unknown flag is refused and left as it is', async (t) => {
  const root = join(temporaryDirectory(t), 'store');
  const store = await openStore(root);
  store.close();
  const format = JSON.parse(readFileSync(store.layout.format, 'utf8')) as object;
  for (const change of [{ version: 2 }, { flags: ['compressed'] }, { version: 0, lower: 'elsewhere' }]) {
    writeFileSync(store.layout.format, JSON.stringify({ ...format, ...change }));
    const before = await tree(root);
    await assert.rejects(openStore(root), { code: 'STORE_VERSION', exitCode: 8 });
    assert.deepEqual(await tree(root), before);
  }
});

test('damaged files are refused with their name', async (t) => {
  const root = join(temporaryDirectory(t), 'store');
  const store = await openStore(root);
  store.close();
  const { layout } = store;
  const cases: [string, string][] = [
    [layout.format, '{"format":"siteswap-store"'],
    [layout.format, '{"format":"something","version":1,"flags":[]}'],
    [layout.head, ''],
    [layout.head, '-1\n'],
    [layout.head, '0'],
    [layout.head, '99999999999999999999\n'],
  ];
  for (const [path, content] of cases) {
    const good = readFileSync(path);
    writeFileSync(path, content);
    await assert.rejects(openStore(root), (error: Error & { exitCode: number }) => {
      assert.equal(error.exitCode, 9, error.message);
      assert.ok(error.message.includes(path) && !error.message.includes('\n'), error.message);
      return true;
    });
    writeFileSync(path, good);
  }
  (await openStore(root)).close();
});

test('HEAD that is lost after a commit is damage, before the first scan it is not', async (t) => {
  const root = join(temporaryDirectory(t), 'store');
  const store = await openStore(root);
  rmSync(store.layout.head);
  store.close();
  const rescanned = await openStore(root);
  assert.equal(rescanned.head, 0);
  writeFileSync(rescanned.layout.generation(1), '{}');
  rmSync(rescanned.layout.head);
  rescanned.close();
  await assert.rejects(openStore(root), { code: 'STORE_DAMAGED' });
});

test('a store in which somebody worked is not unused, as the disk tells it', async (t) => {
  const store = await openStore(join(temporaryDirectory(t), 'store'));
  t.after(() => store.close());
  const { layout } = store;
  assert.equal(await store.isUnused(), true);
  const info = { id: 7, base: 0, command: [], pid: 1, uid: 0, gid: 0, reason: null };
  await store.createTransaction({ ...info, state: 'open' });
  assert.equal(await store.isUnused(), true);
  await store.updateTransaction({ ...info, state: 'refused' });
  assert.equal(await store.isUnused(), false);
  await store.removeTransaction(7);
  // By the server, in another process.
  writeFileSync(layout.head, '1\n');
  assert.equal(await store.isUnused(), false);
  writeFileSync(layout.head, 'damaged');
  await assert.rejects(store.isUnused());
});

test('HEAD is never moved to a generation that can not be read', async (t) => {
  const store = await openStore(join(temporaryDirectory(t), 'store'));
  await assert.rejects(store.moveHead(5), { code: 'STORE_DAMAGED' });
  assert.equal(readFileSync(store.layout.head, 'utf8'), '0\n');
  store.close();
});

test('a store of another directory is refused', async (t) => {
  const root = join(temporaryDirectory(t), 'store');
  (await openStore(root)).close();
  await assert.rejects(
    Store.open(root, { ...LOWER, ino: 43 }, () => true),
    { code: 'LOWER_CHANGED', exitCode: 11 },
  );
});

test('a directory that is no store is refused and left alone', async (t) => {
  const root = temporaryDirectory(t);
  writeFileSync(join(root, 'thesis.tex'), '');
  await assert.rejects(openStore(root), { code: 'STORE_DAMAGED' });
  assert.deepEqual(await tree(root), ['thesis.tex']);
});

test('a store that others may look into is refused', async (t) => {
  const root = temporaryDirectory(t);
  chmodSync(root, 0o755);
  await assert.rejects(openStore(root), { code: 'NO_RIGHTS' });
});

test('a write that fails leaves the old file and no temporary name', async (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'file');
  mkdirSync(path);
  await assert.rejects(writeFileAtomic(path, 'new'));
  assert.deepEqual(await tree(directory), ['file']);
  await writeFileAtomic(join(directory, 'other'), 'a');
  await writeFileAtomic(join(directory, 'other'), 'b');
  assert.equal(readFileSync(join(directory, 'other'), 'utf8'), 'b');
  assert.ok(existsSync(path));
});

test('numbers are taken from names exactly', () => {
  assert.equal(numberOfName('12.json', '.json'), 12);
  for (const name of ['012.json', '1', '.json', '1.json.tmp', '99999999999999999.json']) {
    assert.equal(numberOfName(name, '.json'), null, name);
  }
});
