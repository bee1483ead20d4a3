/**
 * The process that serves a mount for a test: the addon's engine with the shortest policy there is. Every writer becomes a
 * transaction rooted at itself; when it has exited, code 0 commits it, and so does one that nobody could find out; anything
 * else aborts it.
 *
 * Started by `engine-mount.ts` with its options as one JSON argument; talks over the IPC channel. Never touches the mount.
 */

import { mkdirSync, openSync, renameSync } from 'node:fs';
import { join } from 'node:path';

import type { Engine, EngineEvent } from '../../src/native/binding.js';
import { loadBinding } from '../../src/native/load.js';
import { describe } from '../../src/util/errors.js';
import type { FromHost, HostOptions, Outcome, ToHost } from './engine-mount.js';

const FIRST_INO = 1n << 32n;

const options = JSON.parse(process.argv[2]!) as HostOptions;
const binding = loadBinding();
let generation = 0;
let transactions = 0;

function send(message: FromHost): void {
  process.send!(message);
}

function begin({ request, pid }: Extract<EngineEvent, { type: 'writer-appeared' }>): void {
  const id = ++transactions;
  const directory = join(options.store, 'transactions', String(id));
  mkdirSync(directory);
  try {
    engine.beginTransaction({ id, directory, rootPid: pid, token: null });
    send({ type: 'began', transaction: id, pid });
    engine.decide(request, { retry: true });
  } catch (error) {
    send({ type: 'log', text: `begin: ${describe(error)}` });
    engine.decide(request, { errno: 30 });
  }
}

async function end({ transaction, exitCode, signal }: Extract<EngineEvent, { type: 'root-exited' }>): Promise<Outcome> {
  await engine.freezeTransaction(transaction);
  const changes = (await engine.changes(transaction)).map(({ kind, path }) => `${kind} ${path.toString('latin1')}`);
  if (signal !== null || (exitCode ?? 0) !== 0) {
    engine.abortTransaction(transaction);
    return { transaction, exitCode, generation: null, changes, conflicts: [] };
  }
  const next = generation + 1;
  const manifestPath = join(options.store, 'manifests', `${next}.manifest`);
  const built = await engine.buildManifest({ transaction, generation: next, layer: transaction, manifestPath });
  const conflicts = built.conflicts.map(({ path }) => path.toString('latin1'));
  if (conflicts.length > 0) {
    engine.abortTransaction(transaction);
    return { transaction, exitCode, generation: null, changes, conflicts };
  }
  const bodies = join(options.store, 'transactions', String(transaction), 'bodies');
  renameSync(bodies, join(options.store, 'layers', String(transaction)));
  engine.publish({ generation: next, transaction });
  generation = next;
  return { transaction, exitCode, generation, changes, conflicts };
}

// One commit at a time.
let queue: Promise<void> = Promise.resolve();

function onEvent(event: EngineEvent): void {
  switch (event.type) {
    case 'writer-appeared':
      return begin(event);
    case 'root-exited':
      queue = queue.then(async () => {
        try {
          send({ type: 'ended', outcome: await end(event) });
        } catch (error) {
          send({ type: 'log', text: `commit: ${describe(error)}` });
          engine.abortTransaction(event.transaction);
          const { transaction, exitCode } = event;
          send({
            type: 'ended',
            outcome: { transaction, exitCode, generation: null, changes: [], conflicts: [], error: describe(error) },
          });
        }
      });
      return;
    case 'log':
      return send({ type: 'log', text: event.text });
    case 'session-stopped':
      send({ type: 'stopped', reason: event.reason });
      process.disconnect();
      return void engine.stop().then(() => process.exit(0));
  }
}

process.on('message', ({ id }: ToHost) =>
  send({ type: 'reply', id, counters: engine.counters(), pins: engine.pins() }),
);
process.on('disconnect', () => process.exit(0)); // the test is gone; the kernel ends the connection with this process

for (const name of ['manifests', 'layers', 'transactions']) mkdirSync(join(options.store, name), { recursive: true });
const lowerFd = openSync(options.directory, 'r');
const manifestPath = join(options.store, 'manifests', '0.manifest');
const scan = await binding.scanLower({ lowerFd, manifestPath, firstIno: FIRST_INO, inoCount: FIRST_INO }, () => {});
const deviceFd = binding.mountFuse(options.directory, { source: options.store, allowOther: true });
process.chdir('/');
const engine: Engine = binding.createEngine(
  {
    deviceFd,
    lowerFd,
    layersDir: join(options.store, 'layers'),
    manifestsDir: join(options.store, 'manifests'),
    liveDir: join(options.store, 'live'),
    generation: 0,
    firstIno: 2n * FIRST_INO,
    inoCount: FIRST_INO,
    maxMtimeNs: scan.maxMtimeNs,
    disable: options.disable,
    pin: 'process',
  },
  onEvent,
);
const info = await engine.start();
send({ type: 'serving', lowerFd, features: info.features });
