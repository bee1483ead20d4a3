import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { test } from 'node:test';
import { Writers, type WriterEvent, type WritersOptions } from '../../src/daemon/writers.js';
import type { Transaction } from '../../src/txn/transaction.js';
import type { Beginning } from '../../src/txn/transactions.js';

interface World {
  writers: Writers;
  begun: Beginning[];
  verdicts: Map<number, unknown>;
}

function chain(...commands: [number, string][]): ReturnType<WritersOptions['readChain']> {
  return commands.map(([pid, command]) => ({ pid, argv: command.split(' '), exe: null, comm: '' }));
}

interface Options {
  gone?: number[];
  /** A system error that no transaction can begin for. */
  failure?: string;
  roots?: number[];
  readOnly?: boolean;
  readChain?: WritersOptions['readChain'];
}

function world(options: Options = {}): World {
  const begun: Beginning[] = [];
  const verdicts = new Map<number, unknown>();
  const writers = new Writers({
    transactions: {
      begin(beginning) {
        if (options.gone?.includes(beginning.pid)) return Promise.reject(Object.assign(new Error(), { code: 'ESRCH' }));
        if (options.failure) return Promise.reject(Object.assign(new Error(), { code: options.failure }));
        begun.push(beginning);
        return Promise.resolve({} as Transaction);
      },
      hasRoot: (pid) => options.roots?.includes(pid) ?? false,
    },
    engine: { decide: (request, verdict) => void verdicts.set(request, verdict) },
    readChain: options.readChain ?? (() => chain([30, 'cc'], [20, 'pip install x'], [10, 'sh'])),
    readOnly: options.readOnly ?? false,
    log: () => undefined,
  });
  return { writers, begun, verdicts };
}

const EVENT: WriterEvent = {
  type: 'writer-appeared',
  request: 5,
  pid: 30,
  uid: 1000,
  gid: 100,
  op: 'create',
  path: Buffer.from('x'),
};

test('a writer gets the transaction that the policy says, as its own user', async () => {
  const w = world();
  await w.writers.onWriter(EVENT);
  assert.deepEqual(w.verdicts.get(5), { retry: true });
  const [{ pid, uid, gid, command, when }] = w.begun as [Beginning];
  assert.deepEqual(
    { pid, uid, gid, command, when },
    { pid: 20, uid: 1000, gid: 100, command: ['pip', 'install', 'x'], when: 'exit' },
  );
});

test('a transaction of an ancestor that has just begun is joined', async () => {
  const w = world({ roots: [10] });
  await w.writers.onWriter(EVENT);
  assert.equal(w.begun[0]?.pid, 10);
});

test('when the installer is gone, the writer is on its own', async () => {
  const w = world({ gone: [20] });
  await w.writers.onWriter(EVENT);
  assert.equal(w.begun[0]?.pid, 30);
  assert.equal(w.begun[0]?.when, 'exit-or-quiet');
  assert.deepEqual(w.verdicts.get(5), { retry: true });
});

test('whatever goes wrong, the request is answered', async () => {
  const cases: [World, number][] = [
    [world({ readChain: () => [] }), constants.errno.EROFS],
    [world({ readOnly: true }), constants.errno.EROFS],
    [world({ gone: [20, 30] }), constants.errno.EIO],
    [world({ failure: 'ENOSPC' }), constants.errno.ENOSPC],
    [world({ failure: 'EDQUOT' }), constants.errno.EDQUOT],
    [world({ failure: 'EROFS' }), constants.errno.EROFS],
    [world({ failure: 'EBADMSG' }), constants.errno.EIO],
    [
      world({
        readChain: () => {
          throw new Error('bug');
        },
      }),
      constants.errno.EIO,
    ],
  ];
  for (const [w, errno] of cases) {
    await w.writers.onWriter(EVENT);
    assert.deepEqual(w.verdicts.get(5), { errno });
    assert.deepEqual(w.begun, []);
  }
  const unseen = world();
  await unseen.writers.onWriter({ ...EVENT, pid: 0 });
  assert.deepEqual(unseen.verdicts.get(5), { errno: constants.errno.EROFS });
});

test("a reader's byte code is live, any other write of a program is its own transaction", async () => {
  const w = world({ readChain: () => chain([30, 'python app.py'], [10, 'sh']) });
  await w.writers.onWriter({ ...EVENT, path: Buffer.from('x/__pycache__/y.cpython-311.pyc') });
  assert.deepEqual(w.verdicts.get(5), { live: true });
  await w.writers.onWriter(EVENT);
  assert.equal(w.begun[0]?.pid, 30);
  assert.equal(w.begun[0]?.when, 'exit-or-quiet');
});
