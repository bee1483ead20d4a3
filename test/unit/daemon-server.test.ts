/** The server with everything real but the filesystem: store, control socket, transactions. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { ControlClient } from '../../src/daemon/control-client.js';
import type { MountOptions, ServerToKeeper } from '../../src/daemon/keeper-protocol.js';
import { runServer } from '../../src/daemon/server.js';
import type { Backend, Engine, EngineEvent, LowerCheck } from '../../src/fuse/backend.js';
import { DEFAULT_SETTINGS } from '../../src/daemon/config.js';
import { NATIVE_CAPABILITIES } from '../../src/fuse/capabilities.js';
import type { Verdict } from '../../src/txn/commit.js';
import { SiteswapError } from '../../src/util/errors.js';
import { FakeEngine } from '../helpers/fake-engine.js';
import { openStore, temporaryDirectory } from '../helpers/fake-store.js';

interface World {
  engine: FakeEngine;
  emit: (event: EngineEvent) => void;
  decided: Map<number, unknown>;
  client: ControlClient;
  sent: ServerToKeeper[];
  unmounts: { lazy: boolean }[];
  verdict: Verdict;
  /** What the next unmount fails with. */
  refusal: { error: Error | null };
  ended: Promise<number>;
  root: string;
}

/** `lower`: its files are compared in the background, and this is what comes of it. */
async function world(t: TestContext, change: Partial<MountOptions> = {}, lower?: LowerCheck): Promise<World> {
  const root = join(temporaryDirectory(t), 'store');
  (await openStore(root)).close();
  const engine = new FakeEngine();
  const [decided, sent, unmounts] = [new Map<number, unknown>(), [] as ServerToKeeper[], [] as { lazy: boolean }[]];
  const verdict: Verdict = { findings: [], packages: [], checks: [], interpreter: null };
  const refusal: World['refusal'] = { error: null };
  let emit!: (event: EngineEvent) => void;
  const fake: Partial<Engine> = {
    start: () => Promise.resolve({ minor: 45, features: ['epoch'] }),
    decide: (request, answer) => void decided.set(request, answer),
    pins: () => [],
    counters: () => ({ requests: { LOOKUP: 3 }, committedViewEvents: 0, parked: 0 }),
    stop: () => Promise.resolve(),
  };
  const backend: Partial<Backend> = {
    name: 'native',
    capabilities: NATIVE_CAPABILITIES,
    createEngine(_options, onEvent) {
      emit = onEvent;
      return Object.assign(engine, fake) as unknown as Engine;
    },
    checkManifest: () => ({ generation: 0, entries: 3 }),
    checkLower(options) {
      assert.deepEqual([options.directoriesOnly, options.inBackground], [false, true]);
      return lower!;
    },
    peerCredentials: () => ({ pid: 1, uid: 0, gid: 0 }),
    syncFilesystem: () => Promise.resolve(),
  };
  let serving!: () => void;
  const isServing = new Promise<void>((resolve) => (serving = resolve));
  const ended = runServer({
    mount: {
      directory: '/venv/site-packages',
      store: root,
      foreground: false,
      commit: 'auto',
      verify: DEFAULT_SETTINGS,
      pin: 'process',
      backend: 'native',
      generation: null,
      ...change,
    },
    deviceFd: -1,
    filesUnchecked: lower !== undefined,
    backend: backend as Backend,
    disable: [],
    keeper: {
      lost: false,
      send(message) {
        sent.push(message);
        if (message.type === 'serving') serving();
      },
      unmount(lazy) {
        if (refusal.error) return Promise.reject(refusal.error);
        unmounts.push({ lazy });
        emit({ type: 'session-stopped', reason: 'unmounted' });
        return Promise.resolve();
      },
    },
    readChain: (pid) => [{ pid, argv: ['pip', 'install', 'x'], exe: null, comm: 'pip' }],
    createVerify: () => () => Promise.resolve(verdict),
    log: () => undefined,
  });
  await Promise.race([isServing, ended]);
  const client = await ControlClient.connect(root);
  t.after(() => {
    client.close();
    emit({ type: 'session-stopped', reason: 'unmounted' });
    return ended;
  });
  return { engine, emit, decided, client, sent, unmounts, verdict, refusal, ended, root };
}

function writer(request: number, pid: number): EngineEvent {
  return { type: 'writer-appeared', request, pid, uid: 0, gid: 0, op: 'create', path: Buffer.from('x.py') };
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 12_000 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.ok(condition());
}

test('a writer appears, installs, exits: a new generation', async (t) => {
  const w = await world(t);
  w.emit(writer(1, 100));
  w.emit(writer(2, 100));
  await until(() => w.decided.size === 2);
  assert.deepEqual([...w.decided.values()], [{ retry: true }, { retry: true }]);
  const [transaction] = (await w.client.request('status', {})).transactions;
  assert.deepEqual(transaction?.command, ['pip', 'install', 'x']);
  const id = transaction.id;
  w.engine.write(id, 'x.py');
  w.emit({ type: 'root-exited', transaction: id, exitCode: 0, signal: null });
  assert.deepEqual(await w.client.request('wait', { timeoutMs: 60_000 }), { generation: 1 });
  const { generations } = await w.client.request('log', {});
  assert.deepEqual(
    generations.map(({ generation, reason }) => [generation, reason]),
    [
      [1, 'commit'],
      [0, 'base'],
    ],
  );
  const status = await w.client.request('status', {});
  assert.equal(status.generation, 1);
  assert.deepEqual(status.health, []);
  assert.deepEqual(status.kernel, { minor: 45 });
});

test('begin, commit with its steps, abort', async (t) => {
  const w = await world(t);
  const begun = await w.client.request('begin', { pid: process.pid, explicit: true, command: ['make'] });
  assert.match(begun.token, /^[0-9a-f]{32}$/);
  await assert.rejects(w.client.request('begin', { pid: process.pid, explicit: true }), { code: 'BUSY' });
  w.engine.write(begun.transaction, 'x.py');
  const steps: string[] = [];
  const result = await w.client.request('commit', {}, ({ name }) => steps.push(name));
  assert.deepEqual(result, { generation: 1, changed: true, warnings: [] });
  assert.deepEqual(steps, [
    'freeze',
    'verify',
    'build',
    'sync-layer',
    'write-generation',
    'move-head',
    'swap',
    'release',
  ]);
  await assert.rejects(w.client.request('commit', {}), { code: 'NO_TRANSACTION', exitCode: 13 });
  const second = await w.client.request('begin', { pid: process.pid, explicit: true });
  assert.deepEqual(await w.client.request('abort', {}), { transaction: second.transaction });
  await assert.rejects(w.client.request('begin', { pid: 2 ** 22, explicit: true }), { code: 'NO_TRANSACTION' });
});

test('what was refused is shown, and taken by force', async (t) => {
  const w = await world(t);
  w.verdict.findings.push({ severity: 'error', check: 'record', path: '', message: 'no RECORD' });
  const { transaction } = await w.client.request('begin', { pid: process.pid, explicit: true });
  w.engine.write(transaction, 'x.py');
  await assert.rejects(w.client.request('commit', { transaction }), { code: 'COMMIT_REFUSED', exitCode: 14 });
  const { transactions } = await w.client.request('status', {});
  assert.equal(transactions[0]?.state, 'refused');
  assert.equal(transactions[0].reason, 'no RECORD');
  assert.equal((await w.client.request('commit', { force: true })).generation, 1);
});

test('unmount: refused while a transaction is open, forced, and then the server ends', async (t) => {
  const w = await world(t);
  await w.client.request('begin', { pid: process.pid, explicit: true, command: ['make', 'install'] });
  await assert.rejects(w.client.request('unmount', { force: false, lazy: false }), (error: SiteswapError) => {
    assert.equal(error.exitCode, 12);
    assert.match(error.message, /make install/);
    return true;
  });
  assert.deepEqual(await w.client.request('unmount', { force: true, lazy: false }), { remaining: [], lost: [] });
  assert.deepEqual(w.unmounts, [{ lazy: false }]);
  assert.equal(await w.ended, 0);
  assert.equal(w.engine.transactions.size, 0);
});

test('a mount that is in use stays, and its transactions end as they would', async (t) => {
  const w = await world(t);
  w.refusal.error = new SiteswapError('BUSY', 'in use by python (7, cwd)');
  await assert.rejects(w.client.request('unmount', { force: false, lazy: false }), { code: 'BUSY', exitCode: 12 });
  assert.equal((await w.client.request('status', {})).generation, 0);
});

test('a connection that breaks is an error', async (t) => {
  const w = await world(t);
  w.emit({ type: 'session-stopped', reason: 'aborted: ECONNABORTED' });
  assert.equal(await w.ended, 1);
});

test('a change of the original directory that is found while it serves: noted in the store, told by status', async (t) => {
  const changes = Promise.resolve([{ path: Buffer.from('pkg/a.py'), what: 'modified' as const }]);
  const w = await world(t, {}, { changes, stop: () => undefined });
  const health = async (): Promise<string[]> => (await w.client.request('status', {})).health;
  while ((await health()).length === 0);
  assert.match((await health()).join(), /behind the mount: pkg\/a\.py modified \(/);
  await until(() => existsSync(join(w.root, 'lower-changed')));
  assert.match(readFileSync(join(w.root, 'lower-changed'), 'utf8'), /pkg\/a\.py modified\n$/);
});

test('a comparison that fails is told, and one that is under way ends with the mount', async (t) => {
  const failing = Promise.reject(new Error('EIO'));
  failing.catch(() => undefined);
  const failed = await world(t, {}, { changes: failing, stop: () => undefined });
  while ((await failed.client.request('status', {})).health.length === 0);
  assert.ok(!existsSync(join(failed.root, 'lower-changed')));

  let cancel!: () => void;
  const changes = new Promise<never>((_resolve, reject) => {
    cancel = () => reject(Object.assign(new Error('stopped'), { code: 'ECANCELED' }));
  });
  const w = await world(t, {}, { changes, stop: cancel });
  assert.deepEqual((await w.client.request('status', {})).health, []);
  await w.client.request('unmount', { force: false, lazy: false });
  assert.equal(await w.ended, 0);
  assert.ok(!existsSync(join(w.root, 'lower-changed')));
});
