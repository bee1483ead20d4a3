import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createConnection, createServer } from 'node:net';
import { join } from 'node:path';
import { mkdirSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import { ControlClient } from '../../src/daemon/control-client.js';
import { parseRequest, type Progress, type Request } from '../../src/daemon/control-protocol.js';
import { ControlServer } from '../../src/daemon/control-server.js';
import { LineReader } from '../../src/daemon/line-reader.js';
import { SiteswapError } from '../../src/util/errors.js';
import { temporaryDirectory } from '../helpers/fake-store.js';

async function serve(
  t: TestContext,
  handle: (request: Request, onEvent: (event: Progress) => void) => Promise<unknown>,
  uid = 0,
): Promise<string> {
  // Longer than sun_path.
  const storePath = join(temporaryDirectory(t), 'a'.repeat(120));
  mkdirSync(storePath);
  const server = await ControlServer.listen({ storePath, peerUid: () => uid, handle });
  t.after(() => server.close());
  return storePath;
}

async function connect(t: TestContext, storePath: string): Promise<ControlClient> {
  const client = await ControlClient.connect(storePath);
  t.after(() => client.close());
  return client;
}

test('requests are answered, events come before the answer', async (t) => {
  const store = await serve(t, async (request, onEvent) => {
    assert.deepEqual(request.params, { transaction: 5 });
    for (const name of ['freeze', 'verify']) onEvent({ type: 'step', transaction: 5, name });
    return Promise.resolve({ generation: 3, changed: true, warnings: [] });
  });
  const client = await connect(t, store);
  const seen: string[] = [];
  const result = await client.request('commit', { transaction: 5 }, ({ name }) => seen.push(name));
  assert.deepEqual(result, { generation: 3, changed: true, warnings: [] });
  assert.deepEqual(seen, ['freeze', 'verify']);
});

test('an error keeps its code, hint and exit code', async (t) => {
  const store = await serve(t, () => Promise.reject(new SiteswapError('COMMIT_REFUSED', 'no', 'do this')));
  const client = await connect(t, store);
  await assert.rejects(client.request('abort', {}), {
    code: 'COMMIT_REFUSED',
    message: 'no',
    hint: 'do this',
    exitCode: 14,
  });
});

test('a server that answers nothing at all is given up, whatever was asked; one that is busy is not', async (t) => {
  const busy = await serve(t, async ({ method }) => {
    if (method === 'status') throw new SiteswapError('INTERNAL', 'any answer will do');
    await new Promise((resolve) => setTimeout(resolve, 500));
    return { generation: 1 };
  });
  const patient = await ControlClient.connect(busy, 50);
  t.after(() => patient.close());
  assert.deepEqual(await patient.request('wait', {}), { generation: 1 });

  // As the kernel does for a process that is stopped: it connects, and that is all.
  const store = temporaryDirectory(t);
  const silent = createServer().listen(join(store, 'control.sock'));
  t.after(() => silent.close());
  await once(silent, 'listening');
  const stuck = await ControlClient.connect(store, 50);
  t.after(() => stuck.close());
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error('it waits for ever')), 2_000));
  const request = stuck.request('unmount', { force: true, lazy: false });
  await assert.rejects(Promise.race([request, late]), { code: 'SERVER_SILENT', exitCode: 16 });
});

test('other users are refused', async (t) => {
  const store = await serve(t, () => assert.fail('not to be asked'), 4321);
  if (process.geteuid?.() === 4321) return;
  const client = await connect(t, store);
  await assert.rejects(client.request('status', {}), { code: 'ACCESS_DENIED', exitCode: 18 });
});

test('malformed messages get an error and do no harm', async (t) => {
  const store = await serve(t, () => Promise.resolve({ transaction: 1 }));
  const { openSync } = await import('node:fs');
  const path = `/proc/self/fd/${openSync(store, 'r')}/control.sock`;
  const bad = ['nonsense', '[]', '{"id":1}', '{"id":2,"method":"rm"}', '{"id":3,"method":"begin","params":{"pid":-1}}'];
  bad.push('{"id":4,"method":"abort","params":{"transaction":"1; rm"}}', '{"id":-4,"method":"abort"}', '\u0000\u0001');
  for (const line of bad) {
    const answer = await new Promise<string>((resolve, reject) => {
      const socket = createConnection(path, () => socket.write(`${line}\n`));
      const reader = new LineReader(1 << 20, (text) => {
        socket.destroy();
        resolve(text);
      });
      socket.on('data', (chunk) => reader.push(chunk));
      socket.on('error', reject);
    });
    const parsed = JSON.parse(answer) as { ok: boolean; error: { code: string } };
    assert.equal(parsed.ok, false, line);
    assert.equal(parsed.error.code, 'BAD_REQUEST', line);
  }
  const closed = await new Promise<boolean>((resolve) => {
    const socket = createConnection(path, () => socket.write('x'.repeat(3 << 20)));
    socket.on('error', () => resolve(true));
    socket.on('close', () => resolve(true));
  });
  assert.ok(closed);
  const client = await connect(t, store);
  assert.deepEqual(await client.request('abort', { transaction: 1 }), { transaction: 1 });
});

test('without a server there is a clear error', async (t) => {
  const store = temporaryDirectory(t);
  await assert.rejects(ControlClient.connect(store), { code: 'NOT_MOUNTED', exitCode: 7 });
  await assert.rejects(ControlClient.connect(join(store, 'none')), { code: 'NOT_MOUNTED' });
});

test('requests are checked strictly', () => {
  assert.throws(() => parseRequest({ id: 1, method: 'unmount', params: { force: true } }));
  assert.throws(() => parseRequest({ id: 1, method: 'commit', params: { forse: true } }));
  assert.deepEqual(parseRequest({ id: 1, method: 'status' }), { id: 1, method: 'status', params: {} });
});

test('lines may come in any pieces', () => {
  const lines: string[] = [];
  const reader = new LineReader(8, (line) => lines.push(line));
  for (const piece of ['a', 'bc\nd', '\n\nef', 'g', '\n']) reader.push(Buffer.from(piece));
  assert.deepEqual(lines, ['abc', 'd', 'efg']);
  assert.throws(() => reader.push(Buffer.from('123456789')));
});
