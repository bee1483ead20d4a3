/**
 * Run as a process: `commit-and-crash STORE [keep]`. Begins a transaction and commits it; SITESWAP_CRASH_AT kills it on
 * the way. With `keep`, the transaction is one that was refused before and is now taken by force.
 */
import type { Transaction } from '../../src/txn/transaction.js';
import { examine, publish } from '../../src/txn/commit.js';
import { infoFile } from '../../src/txn/transaction.js';
import { FakeEngine } from './fake-engine.js';
import { openStore } from './fake-store.js';

const [root, keep] = process.argv.slice(2);
const store = await openStore(root!);
const { firstTransaction } = await store.takeStart();
const engine = new FakeEngine(store.head);
const transaction: Transaction = {
  id: firstTransaction,
  base: store.head,
  command: ['pip', 'install', 'x'],
  pid: process.pid,
  uid: 0,
  gid: 0,
  when: 'exit',
  token: null,
  terminal: null,
  state: keep ? 'refused' : 'open',
  step: null,
  reason: null,
  rootGone: true,
};
const directory = await store.createTransaction(infoFile(transaction));
engine.beginTransaction({ id: transaction.id, directory, rootPid: process.pid });
engine.write(transaction.id, 'x/__init__.py');
const onStep = (): void => undefined;
const examined = await examine(transaction, {
  engine,
  verify: () => Promise.resolve({ findings: [], packages: [], checks: [], interpreter: null }),
  force: keep !== undefined,
  commands: [],
  onStep,
  signal: new AbortController().signal,
});
if (examined.kind !== 'examined') throw new Error(examined.kind);
const outcome = await publish(transaction, examined, keep !== undefined, {
  store,
  engine,
  sync: () => Promise.resolve(),
  nowMs: () => 2,
  onStep,
});
process.stdout.write(outcome.kind);
