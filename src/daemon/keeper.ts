/**
 * The keeper: prepares the store, mounts, starts the server, and outlives it. It holds the /dev/fuse descriptor, so the
 * kernel's connection does not break with the server, and unmounts when the server asks.
 *
 * Invariants: its cwd, files and mappings are outside of the mount; it never looks into the mount. When the server dies
 * without an unmount, the keeper ends too and the mount answers ENOTCONN: a crash never silently shows the old packages.
 */
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import type { ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';
import { loadBackend, type Backend } from '../fuse/backend.js';
import { writeFileAtomic } from '../store/atomic-fs.js';
import { errorData, SiteswapError, systemCode, type ErrorData } from '../util/errors.js';
import { SERVER_START_TIMEOUT_MS } from '../util/limits.js';
import { findHolders } from './holders.js';
import { serverMessageSchema, type KeeperToServer, type MountOptions, type ServerOptions } from './keeper-protocol.js';
import { LineChannel } from './line-channel.js';
import { allowOther, prepare, type Prepared, type Report } from './prepare.js';
import { SERVER_FDS } from './server-fds.js';
import { spawnNode } from './start.js';

/**
 * A signal to end, at any time: without a server it is remembered until there is nothing half done, then the server is
 * told, which unmounts.
 */
class EndRequest {
  #asked = false;
  #server: ChildProcess | null = null;

  constructor() {
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => this.#ask());
  }

  throwIfAsked(): void {
    if (this.#asked) throw new SiteswapError('INTERNAL', 'the mount was interrupted', 'Mount again.');
  }

  passTo(server: ChildProcess): void {
    this.#server = server;
  }

  #ask(): void {
    this.#asked = true;
    this.#server?.kill('SIGTERM');
  }
}

/** Resolves with the exit code after the mount has ended. Rejects when it could not be started; nothing is left then. */
export async function runKeeper(options: MountOptions, report: Report, onReady: () => void): Promise<number> {
  const endRequest = new EndRequest();
  const backend = await loadBackend(options.backend);
  const prepared = await prepare(options, backend, report);
  try {
    endRequest.throwIfAsked();
    report.progress('mounting');
    const device = backend.mount(options.directory, { source: options.store, allowOther: allowOther() });
    try {
      return await keep(options, backend, prepared, device, endRequest, onReady);
    } catch (error) {
      backend.unmount(options.directory, { lazy: true });
      throw error;
    } finally {
      closeSync(device);
    }
  } catch (error) {
    await prepared.undo();
    throw error;
  }
}

async function keep(
  options: MountOptions,
  backend: Backend,
  { store, lowerFd, filesUnchecked }: Prepared,
  device: number,
  endRequest: EndRequest,
  onReady: () => void,
): Promise<number> {
  const logFd = options.foreground ? 2 : openSync(store.layout.serverLog, 'a', 0o600);
  const log = (text: string): void => void writeSync(logFd, `${new Date().toISOString()} keeper: ${text}\n`);
  if (store.lockFd === null) throw new Error('invariant broken: the keeper has no lock');

  const serverOptions: ServerOptions = { mount: options, filesUnchecked };
  const server = spawnNode('daemon/server-main', [JSON.stringify(serverOptions)], {
    detached: false,
    stdio: ['ignore', logFd, logFd, device, lowerFd, 'pipe', store.lockFd],
  });
  endRequest.passTo(server);
  const exited = new Promise<number | NodeJS.Signals>((resolve) =>
    server.once('exit', (code, signal) => resolve(code ?? signal ?? 1)),
  );
  try {
    await serving(server, options, backend);
  } catch (error) {
    server.kill('SIGKILL');
    await exited;
    throw error;
  }
  const { pid } = server;
  await writeFileAtomic(
    store.layout.session,
    `${JSON.stringify({ mountpoint: options.directory, keeperPid: process.pid, serverPid: pid, sinceMs: Date.now() })}\n`,
  );
  log(`serving ${options.directory}`);
  onReady();

  const end = await exited;
  rmSync(store.layout.session, { force: true });
  if (end === 0) {
    log('unmounted');
    return 0;
  }
  log(`the server ended with ${end} while mounted: the mount answers no more, until it is unmounted and mounted again`);
  return 1;
}

/** Resolves when the server serves; then goes on answering it. */
function serving(server: ChildProcess, options: MountOptions, backend: Backend): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (what: string): void =>
      reject(new SiteswapError('INTERNAL', `the server ${what}`, `See ${options.store}/server.log.`));
    const timer = setTimeout(() => fail('did not start in time'), SERVER_START_TIMEOUT_MS);
    server.once('error', (error) => fail(`can't be started: ${error.message}`));
    server.once('exit', (code, signal) => fail(`ended at its start with ${code ?? signal}`));
    const channel = new LineChannel<KeeperToServer>((server.stdio as unknown[])[SERVER_FDS.keeper] as Socket, () =>
      clearTimeout(timer),
    );
    channel.receive(serverMessageSchema, (message) => {
      clearTimeout(timer);
      if (message.type === 'serving') resolve();
      else if (message.type === 'failed') reject(SiteswapError.fromData(message.error));
      else channel.send({ type: 'unmounted', error: unmount(options.directory, message.lazy, backend, server.pid) });
    });
  });
}

function unmount(directory: string, lazy: boolean, backend: Backend, serverPid?: number): ErrorData | null {
  try {
    backend.unmount(directory, { lazy });
    return null;
  } catch (error) {
    if (systemCode(error) !== 'EBUSY') return errorData(error);
    return busyError(directory, new Set([process.pid, serverPid ?? 0])).toData();
  }
}

function busyError(directory: string, ours: ReadonlySet<number>): SiteswapError {
  const holders = findHolders(directory, ours).map(({ pid, command, how }) => `${command} (${pid}, ${how})`);
  const by = holders.length > 0 ? ` by ${holders.join(', ')}` : '';
  return new SiteswapError(
    'BUSY',
    `${directory} is in use${by}`,
    'End these processes, or use --lazy: it goes away when they have ended.',
  );
}
