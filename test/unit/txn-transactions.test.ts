import assert from 'node:assert/strict';
import { cpSync, existsSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { TransactionNumbers } from '../../src/store/starts.js';
import type { Store } from '../../src/store/store.js';
import { COMMIT_STEPS, type Verdict, type Verify } from '../../src/txn/commit.js';
import type { Transaction } from '../../src/txn/transaction.js';
import { Transactions, type Beginning } from '../../src/txn/transactions.js';
import { BARRIER_MS, KEEP_RETRY_MS, QUIET_MS } from '../../src/util/limits.js';
import { FakeClock } from '../helpers/fake-clock.js';
import { FakeEngine } from '../helpers/fake-engine.js';
import { openStore, temporaryDirectory, tree } from '../helpers/fake-store.js';

interface World {
  store: Store;
  engine: FakeEngine;
  clock: FakeClock;
  transactions: Transactions;
  verdict: Verdict;
  verify: Verify;
  /** What the installer's terminal was told. */
  told: string[];
  begin: (change?: Partial<Beginning>) => Promise<Transaction>;
}

async function world(t: TestContext, mode: 'auto' | 'manual' = 'auto'): Promise<World> {
  const store = await openStore(join(temporaryDirectory(t), 'store'));
  t.after(() => store.close());
  const numbers = new TransactionNumbers(await store.takeStart(), () => store.takeStart());
  const [engine, clock, told] = [new FakeEngine(), new FakeClock(), [] as string[]];
  const verdict: Verdict = { findings: [], packages: [], checks: [], interpreter: null };
  const transactions = new Transactions({
    store,
    engine,
    directory: '/venv/site-packages',
    verify: (...given) => w.verify(...given),
    sync: () => Promise.resolve(),
    clock,
    mode,
    nextId: () => numbers.next(),
    log: () => undefined,
    tell: (_transaction, lines) => told.push(lines.join('\n')),
    verifiers: 2,
  });
  const defaults: Beginning = {
    pid: 100,
    uid: 1,
    gid: 1,
    command: ['pip', 'install', 'x'],
    terminal: null,
    when: 'exit',
  };
  const begin = (change: Partial<Beginning> = {}): Promise<Transaction> =>
    transactions.begin({ ...defaults, ...change });
  const w: World = { store, engine, clock, transactions, verdict, verify: () => Promise.resolve(verdict), told, begin };
  return w;
}

/** Lets work that the clock or an event has started come to its end. */
async function settle({ transactions }: World, id: number): Promise<void> {
  for (let i = 0; i < 12_000; i++) {
    const found = transactions.list().find((transaction) => transaction.id === id);
    if (!found || found.state === 'refused' || found.state === 'staged') return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.fail('it does not settle');
}

test('an installer that exits with 0 is committed', async (t) => {
  const w = await world(t);
  w.verdict.packages.push({ name: 'x', from: null, to: '1' });
  const { id } = await w.begin();
  w.engine.write(id, 'x.py');
  w.transactions.rootExited(id, 0, null);
  await w.transactions.settled();
  assert.equal(w.store.head, 1);
  assert.deepEqual(w.transactions.list(), []);
  assert.deepEqual(w.engine.calls, [`begin ${id}`, `freeze ${id}`, `build ${id}`, 'load 1', 'publish 1']);
  const [newest] = await w.store.history();
  assert.deepEqual(newest?.packages, w.verdict.packages);
  assert.deepEqual(newest?.command, ['pip', 'install', 'x']);
  assert.ok(existsSync(w.store.layout.layer(id)) && !existsSync(w.store.layout.transaction(id)));
});

for (const [name, exitCode, signal] of [
  ['fails', 1, null],
  ['is killed', null, 9],
] as const) {
  test(`an installer that ${name} leaves nothing`, async (t) => {
    const w = await world(t);
    const before = await tree(w.store.layout.root);
    const { id } = await w.begin();
    w.engine.write(id, 'x.py');
    w.transactions.rootExited(id, exitCode, signal);
    await settle(w, id);
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(w.store.head, 0);
    assert.deepEqual(w.engine.calls, [`begin ${id}`, `abort ${id}`]);
    assert.deepEqual(w.engine.refusals.get(id), { exceptRoot: false, quietMs: null });
    assert.deepEqual(await tree(w.store.layout.root), before);
  });
}

test('an unknown exit status is judged by verification', async (t) => {
  const w = await world(t);
  const { id } = await w.begin();
  w.engine.write(id, 'x.py');
  w.transactions.rootExited(id, null, null);
  await w.transactions.settled();
  assert.equal(w.store.head, 1);
});

test('an installer that changed nothing makes no generation', async (t) => {
  const w = await world(t);
  const { id } = await w.begin();
  w.transactions.rootExited(id, 0, null);
  await w.transactions.settled();
  assert.equal(w.store.head, 0);
  assert.deepEqual(w.engine.calls, [`begin ${id}`, `freeze ${id}`, `abort ${id}`]);
  assert.equal(w.engine.refusals.get(id), undefined, 'a daemon that it started is free to write');
});

test('two writers of one installer share a transaction', async (t) => {
  const w = await world(t);
  const [a, b] = await Promise.all([w.begin(), w.begin()]);
  assert.equal(a.id, b.id);
  const other = await w.begin({ pid: 200 });
  assert.notEqual(other.id, a.id);
});

test('a process number that is used again gets a transaction of its own', async (t) => {
  const w = await world(t);
  const first = await w.begin();
  w.engine.write(first.id, 'x.py');
  w.transactions.rootExited(first.id, 0, null);
  await w.transactions.settled();
  assert.notEqual((await w.begin()).id, first.id);
});

test('a process that is gone gets none, and leaves nothing', async (t) => {
  const w = await world(t);
  const before = await tree(w.store.layout.root);
  w.engine.failures.set('begin', Object.assign(new Error('gone'), { code: 'ESRCH' }));
  await assert.rejects(w.begin(), { code: 'ESRCH' });
  assert.deepEqual(await tree(w.store.layout.root), before);
  w.engine.failures.clear();
  assert.ok(await w.begin());
});

test('verification refuses, tells, keeps; force takes it', async (t) => {
  const w = await world(t);
  w.verdict.findings.push({ severity: 'error', check: 'record', path: '', message: 'x-1.dist-info has no RECORD' });
  const { id } = await w.begin();
  w.engine.write(id, 'x.py');
  w.transactions.rootExited(id, 0, null);
  await settle(w, id);
  assert.equal(w.store.head, 0);
  assert.equal(w.told.length, 1);
  assert.match(
    w.told[0]!,
    /\(pip install x\) is not committed, nothing was changed:\n {2}x-1.dist-info has no RECORD\n/,
  );
  assert.equal(w.engine.calls.at(-1), `release-barrier ${id}`);
  const info = JSON.parse(readFileSync(w.store.layout.transactionInfo(id), 'utf8')) as { state: string };
  assert.equal(info.state, 'refused');
  await w.transactions.settled();

  await assert.rejects(w.transactions.commit(id), { code: 'COMMIT_REFUSED', exitCode: 14 });
  assert.deepEqual(await w.transactions.commit(id, { force: true }), {
    generation: 1,
    changed: true,
    warnings: ['taken by force, although: x-1.dist-info has no RECORD'],
  });
  assert.deepEqual(w.transactions.list(), []);
});

test('a conflict names both commands', async (t) => {
  const w = await world(t);
  const loser = await w.begin({ pid: 1, command: ['pip', 'install', 'x==1'], when: 'explicit' });
  const winner = await w.begin({ pid: 2, command: ['pip', 'install', 'x==2'], when: 'explicit' });
  for (const { id } of [loser, winner]) w.engine.write(id, 'x.py');
  await w.transactions.commit(winner.id);
  w.engine.conflicts.push('x.py');
  await assert.rejects(w.transactions.commit(loser.id), (error: Error & { exitCode: number }) => {
    assert.equal(error.exitCode, 15);
    assert.match(
      error.message,
      /'pip install x==1' and, before it, 'pip install x==2' \(generation 1\) changed the same files: x\.py$/,
    );
    return true;
  });
  assert.equal(w.store.head, 1);
  assert.equal(w.transactions.list()[0]?.state, 'refused');
  const { generation, changed, warnings } = await w.transactions.commit(loser.id, { force: true });
  assert.deepEqual({ generation, changed }, { generation: 2, changed: true });
  assert.match(warnings.join(), /^taken by force, although: /);
  assert.deepEqual(w.engine.resolutions, [{ path: Buffer.from('x.py'), take: 'transaction' }]);
});

test('one distribution by two: refused without a common path; by force the versions follow each other', async (t) => {
  const w = await world(t);
  const loser = await w.begin({ pid: 1, command: ['pip', 'install', 'x==1'], when: 'explicit' });
  const winner = await w.begin({ pid: 2, command: ['pip', 'install', 'x==2'], when: 'explicit' });
  for (const { id } of [loser, winner]) w.engine.write(id, `${id}.py`);
  w.verdict.packages = [{ name: 'x', from: null, to: '2' }];
  await w.transactions.commit(winner.id);
  w.verdict.packages = [{ name: 'x', from: null, to: '1' }];
  await assert.rejects(w.transactions.commit(loser.id), {
    code: 'COMMIT_CONFLICT',
    message: /'pip install x==1' and, before it, 'pip install x==2' \(generation 1\) changed the same distribution: x$/,
  });
  await w.transactions.commit(loser.id, { force: true });
  assert.deepEqual((await w.store.history(1))[0]?.packages, [{ name: 'x', from: '2', to: '1' }]);
});

test('a conflict that is none is committed', async (t) => {
  const w = await world(t);
  const all = await Promise.all([1, 2].map((pid) => w.begin({ pid, when: 'explicit' })));
  for (const { id } of all) {
    w.engine.write(id, 'easy-install.pth', `/src/${id}\n`);
    w.engine.write(id, 'ns/__init__.py', '');
    w.engine.write(id, 'ns/__pycache__/__init__.cpython-311.pyc');
  }
  await w.transactions.commit(all[0]!.id);
  w.engine.conflicts.push('ns/__pycache__/__init__.cpython-311.pyc', 'ns/__init__.py', 'easy-install.pth');
  await w.transactions.commit(all[1]!.id);
  assert.deepEqual(
    w.engine.resolutions.map(({ path, take }) => [path.toString(), take.toString()]),
    [
      ['ns/__init__.py', 'head'],
      ['easy-install.pth', `/src/${all[0]!.id}\n/src/${all[1]!.id}\n`],
      ['ns/__pycache__/__init__.cpython-311.pyc', 'head'],
    ],
  );
});

test('commits asked for together are published one after the other', async (t) => {
  const w = await world(t);
  const all = await Promise.all([1, 2, 3].map((pid) => w.begin({ pid, when: 'explicit' })));
  for (const { id } of all) w.engine.write(id, `${id}.py`);
  const steps: string[] = [];
  const results = await Promise.all(
    all.map(({ id }) => w.transactions.commit(id, { onStep: (step, of) => steps.push(`${of} ${step}`) })),
  );
  assert.deepEqual(
    results.map(({ generation }) => generation),
    [1, 2, 3],
  );
  // They are verified side by side; what changes the store is one at a time.
  for (const { id } of all) {
    const own = steps.filter((step) => step.startsWith(`${id} `)).map((step) => step.split(' ')[1]);
    assert.deepEqual(own, COMMIT_STEPS);
  }
  const publishing = steps.filter((step) => !/ (freeze|verify)$/.test(step)).map((step) => Number(step.split(' ')[0]));
  assert.deepEqual(
    publishing,
    all.flatMap(({ id }) => Array.from({ length: COMMIT_STEPS.length - 2 }, () => id)),
  );
});

for (const failing of ['freeze', 'build', 'load'] as const) {
  test(`an error in ${failing} keeps the transaction and nobody waits`, async (t) => {
    const w = await world(t);
    const { id } = await w.begin({ when: 'explicit' });
    w.engine.write(id, 'x.py');
    w.engine.failures.set(failing, Object.assign(new Error('no space left'), { code: 'ENOSPC' }));
    await assert.rejects(w.transactions.commit(id));
    assert.equal(w.transactions.list()[0]?.state, 'refused');
    assert.ok(w.engine.calls.includes(`release-barrier ${id}`));
    w.engine.failures.clear();
    assert.equal((await w.transactions.commit(id, { force: true })).generation, 1);
  });
}

test('the end of the mount waits for no verification: what it was about is kept', async (t) => {
  const w = await world(t);
  const { id } = await w.begin({ when: 'explicit' });
  w.engine.write(id, 'x.py');
  w.verify = (_transaction, _changes, { signal }) =>
    new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(new Error('ended')));
    });
  const committed = assert.rejects(w.transactions.commit(id), /ended/);
  while (w.transactions.list()[0]?.step !== 'verify') await new Promise(setImmediate);
  assert.deepEqual(await w.transactions.abortOpen(), []);
  await committed;
  assert.equal(w.transactions.list()[0]?.state, 'refused');
  w.verify = () => Promise.resolve(w.verdict);
  assert.equal((await w.transactions.commit(id)).generation, 1);
});

test('an older copy of the store in its place gets no commit whose history it does not have', async (t) => {
  const w = await world(t);
  const { root } = w.store.layout;
  cpSync(root, `${root}-copy`, { recursive: true });
  const first = await w.begin({ when: 'explicit' });
  w.engine.write(first.id, 'x.py');
  await w.transactions.commit(first.id);
  const second = await w.begin({ when: 'explicit', pid: 101 });
  w.engine.write(second.id, 'y.py');
  renameSync(root, `${root}-moved`);
  renameSync(`${root}-copy`, root);
  await assert.rejects(w.transactions.commit(second.id), { code: 'STORE_DAMAGED', message: /was replaced/ });
  assert.deepEqual(await w.store.keptTransactions(), []);
  rmSync(root, { recursive: true });
  renameSync(`${root}-moved`, root);
  assert.equal((await w.transactions.commit(second.id, { force: true })).generation, 2);
});

test('what a commit leaves in the store and the disk does not let go of is no refusal: it is committed', async (t) => {
  const w = await world(t);
  const { id } = await w.begin({ when: 'explicit' });
  w.engine.write(id, 'x.py');
  t.mock.method(w.store, 'removeTransaction', () => Promise.reject(new Error('i/o error')));
  const { generation, changed, warnings } = await w.transactions.commit(id);
  assert.deepEqual([generation, changed, w.store.head], [1, true, 1]);
  assert.match(warnings.join(), /i\/o error/);
  assert.deepEqual(w.transactions.list(), []);
  assert.deepEqual((await w.store.recover()).delete, [w.store.layout.transaction(id)]);
});

test('a refusal that the disk does not take is tried again until it does', async (t) => {
  const w = await world(t);
  const { id } = await w.begin();
  w.engine.write(id, 'x.py');
  w.verdict.findings.push({ severity: 'error', check: 'record', path: 'x', message: 'x is missing' });
  const update = t.mock.method(w.store, 'updateTransaction', () => Promise.reject(new Error('no space left')));
  w.transactions.rootExited(id, 0, null);
  await settle(w, id);
  assert.ok(w.engine.calls.includes(`release-barrier ${id}`));
  assert.match(w.transactions.problems().join(), /is kept no longer than this mount: .*no space left/);
  for (const ms of [KEEP_RETRY_MS, 0, KEEP_RETRY_MS]) {
    w.clock.advance(ms);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.equal(update.mock.callCount(), 3);
  assert.equal((await w.transactions.saveKept()).length, 1);
  assert.deepEqual(await w.store.keptTransactions(), []);
  update.mock.restore();
  assert.deepEqual(await w.transactions.saveKept(), []);
  const [kept] = await w.store.keptTransactions();
  assert.deepEqual([kept?.id, kept?.state, kept?.reason], [id, 'refused', 'x is missing']);
});

for (const end of ['commit', 'abort'] as const) {
  test(`a refusal that the disk did not take is forgotten by ${end}`, async (t) => {
    const w = await world(t);
    const { id } = await w.begin({ when: 'explicit' });
    w.engine.write(id, 'x.py');
    w.verdict.findings.push({ severity: 'error', check: 'record', path: 'x', message: 'x is missing' });
    const update = t.mock.method(w.store, 'updateTransaction', () => Promise.reject(new Error('no space left')));
    await assert.rejects(w.transactions.commit(id), { code: 'COMMIT_REFUSED' });
    update.mock.restore();
    w.clock.advance(KEEP_RETRY_MS);
    await (end === 'commit' ? w.transactions.commit(id, { force: true }) : w.transactions.abort(id));
    assert.deepEqual(await w.transactions.saveKept(), []);
    assert.equal(existsSync(w.store.layout.transaction(id)), false);
  });
}

test('an error after the layer was moved is undone', async (t) => {
  const w = await world(t);
  const { id } = await w.begin({ when: 'explicit' });
  w.engine.write(id, 'x.py');
  w.verdict.packages.push({ name: 1 as unknown as string, from: null, to: null });
  await assert.rejects(w.transactions.commit(id));
  const left = await tree(w.store.layout.root);
  assert.ok(left.includes(`transactions/${id}/bodies/1`) && !left.includes(`layers/${id}`));
  assert.ok(!left.some((name) => name.includes('1.manifest') || name.includes('.tmp-')));
  w.verdict.packages.pop();
  assert.equal((await w.transactions.commit(id, { force: true })).generation, 1);
});

test('a program commits when it is quiet, and again when it writes again', async (t) => {
  const w = await world(t);
  const { id } = await w.begin({ when: 'exit-or-quiet', command: ['bash'] });
  w.engine.write(id, 'a.py');
  w.clock.advance(QUIET_MS * 2);
  assert.equal(w.store.head, 0);
  w.engine.transactions.get(id)!.quietMs = QUIET_MS;
  w.clock.advance(QUIET_MS);
  await w.transactions.settled();
  assert.equal(w.store.head, 1);
  assert.notEqual((await w.begin({ when: 'exit-or-quiet' })).id, id);
});

test('a refused program that lives on is no member any more', async (t) => {
  const w = await world(t);
  w.verdict.findings.push({ severity: 'error', check: 'record', path: '', message: 'broken' });
  const { id } = await w.begin({ when: 'exit-or-quiet' });
  w.engine.write(id, 'a.py');
  w.engine.transactions.get(id)!.quietMs = QUIET_MS;
  w.clock.advance(QUIET_MS);
  await settle(w, id);
  assert.deepEqual(w.engine.calls.slice(-3), [`release-barrier ${id}`, `abort ${id}`, `restore ${id}`]);
});

test('readers wait for a decision for so long and no longer', async (t) => {
  const w = await world(t);
  let decide!: (verdict: Verdict) => void;
  let ask!: () => void;
  const asked = new Promise<void>((resolve) => (ask = resolve));
  const slow = new Transactions({
    ...(w.transactions as unknown as { options: ConstructorParameters<typeof Transactions>[0] }).options,
    verify: () =>
      new Promise((resolve) => {
        decide = resolve;
        ask();
      }),
  });
  const { id } = await slow.begin({ pid: 7, uid: 1, gid: 1, command: [], terminal: null, when: 'exit' });
  w.engine.write(id, 'x.py');
  slow.rootExited(id, 0, null);
  w.clock.advance(BARRIER_MS - 1);
  assert.ok(!w.engine.calls.includes(`release-barrier ${id}`));
  w.clock.advance(1);
  assert.ok(w.engine.calls.includes(`release-barrier ${id}`));
  await asked;
  decide({ findings: [], packages: [], checks: [], interpreter: null });
  await slow.settled();
  assert.equal(w.store.head, 1);
});

test('manual: what has ended well waits for commit', async (t) => {
  const w = await world(t, 'manual');
  const { id } = await w.begin();
  w.engine.write(id, 'x.py');
  w.transactions.rootExited(id, 0, null);
  await settle(w, id);
  assert.equal(w.transactions.list()[0]?.state, 'staged');
  assert.deepEqual(w.engine.calls.slice(-2), [`freeze ${id}`, `release-barrier ${id}`]);
  assert.equal((await w.transactions.commit(id)).generation, 1);
});

test('explicit: nothing ends it but commit, abort, or the end of its process', async (t) => {
  const w = await world(t);
  const lost = await w.begin({ pid: 1, when: 'explicit' });
  assert.match(lost.token ?? '', /^[0-9a-f]{32}$/);
  await w.transactions.settled();
  w.transactions.rootExited(lost.id, 0, null);
  await settle(w, lost.id);
  assert.deepEqual(w.transactions.list(), []);
  const dropped = await w.begin({ pid: 2, when: 'explicit' });
  await w.transactions.abort(dropped.id);
  assert.deepEqual(w.engine.refusals.get(dropped.id), { exceptRoot: true, quietMs: null }, 'a shell goes on');
  const plain = await w.begin({ pid: 3, when: 'exit-or-quiet' });
  await w.transactions.abort(plain.id);
  assert.deepEqual(w.engine.refusals.get(plain.id), { exceptRoot: false, quietMs: QUIET_MS });
  assert.equal(w.store.head, 0);
  await assert.rejects(w.transactions.abort(dropped.id), { code: 'NO_TRANSACTION', exitCode: 13 });
});

test('wait has an end', async (t) => {
  const w = await world(t);
  await w.begin();
  const waiting = w.transactions.settled(1000);
  w.clock.advance(1000);
  await assert.rejects(waiting, { code: 'TIMED_OUT', exitCode: 17 });
});

test('a restart brings back what was refused', async (t) => {
  const w = await world(t);
  w.verdict.findings.push({ severity: 'error', check: 'record', path: '', message: 'broken' });
  const { id } = await w.begin();
  w.engine.write(id, 'x.py');
  w.transactions.rootExited(id, 0, null);
  await settle(w, id);
  await w.store.recover();
  const engine = new FakeEngine();
  const { options } = w.transactions as unknown as { options: ConstructorParameters<typeof Transactions>[0] };
  engine.failures.set('restore', new Error('bad journal'));
  const without = new Transactions({ ...options, engine });
  await without.restore();
  assert.deepEqual(without.list(), []);
  assert.match(
    without.problems().join(),
    /^transaction \d+ was kept and can't be read \(bad journal\): delete .*\/\d+ /,
  );

  engine.failures.clear();
  const restarted = new Transactions({ ...options, engine });
  await restarted.restore();
  assert.deepEqual(engine.calls, [`restore ${id}`, `restore ${id}`]);
  assert.equal(restarted.list()[0]?.reason, 'broken');
  assert.equal((await restarted.commit(id, { force: true })).generation, 1);
});
