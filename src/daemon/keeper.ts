/**
 * The keeper: starts the server, prepares the store while that loads, mounts, and outlives it. It holds the /dev/fuse
 * descriptor, so the kernel's connection does not break with the server, and unmounts when the server asks.
 *
 * Invariants: its cwd, files and mappings are outside of the mount; it never looks into the mount. When the server dies
 * without an unmount, the keeper ends too and the mount answers ENOTCONN: a crash never silently shows the old packages. A
 * mount that fails is undone, with the store that was made for it; one that has served is not, whatever happens.
 */
import { closeSync, openSync, rmSync } from 'node:fs';
import { loadBackend, type Backend } from '../fuse/backend.js';
import { writeFileAtomic } from '../store/atomic-fs.js';
import type { Store } from '../store/store.js';
import { describe, SiteswapError } from '../util/errors.js';
import type { MountOptions } from './keeper-protocol.js';
import { createLog, type Log } from './log.js';
import { allowOther, open, prepare, type Opened, type Report } from './prepare.js';
import { ServerProcess } from './server-process.js';

/**
 * A signal to end, at any time: without a server it is remembered until there is nothing half done, then the server is
 * told, which unmounts.
 */
class EndRequest {
  #asked = false;
  #server: ServerProcess | null = null;

  constructor() {
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => this.#ask());
  }

  throwIfAsked(): void {
    if (this.#asked) throw new SiteswapError('INTERNAL', 'the mount was interrupted', 'Mount again.');
  }

  passTo(server: ServerProcess): void {
    this.#server = server;
  }

  #ask(): void {
    this.#asked = true;
    this.#server?.terminate();
  }
}

/** Resolves with the exit code after the mount has ended. Rejects when it could not be started; nothing is left then. */
export async function runKeeper(options: MountOptions, report: Report, onReady: () => void): Promise<number> {
  const endRequest = new EndRequest();
  const backend = await loadBackend(options.backend);
  const opened = await open(options, backend);
  let mounted: Mounted;
  try {
    mounted = await mount(opened, options, backend, report, endRequest);
  } catch (error) {
    await opened.undo();
    throw error;
  }
  // Nothing is undone from here on: there may be commits.
  return keep(options, opened.store, mounted, onReady);
}

interface Mounted {
  server: ServerProcess;
  device: number;
  log: Log;
}

/** Resolves when it serves. Rejects when there is neither a mount nor a server any more. */
async function mount(
  opened: Opened,
  options: MountOptions,
  backend: Backend,
  report: Report,
  endRequest: EndRequest,
): Promise<Mounted> {
  const { store, lowerFd } = opened;
  if (store.lockFd === null) throw new Error('invariant broken: the keeper has no lock');
  const logFd = options.foreground ? 2 : openSync(store.layout.serverLog, 'a', 0o600);
  const server = new ServerProcess(options, backend, { log: logFd, lower: lowerFd, lock: store.lockFd });
  try {
    const { filesUnchecked } = await prepare(opened, options, backend, report);
    endRequest.throwIfAsked();
    report.progress('mounting');
    const device = backend.mount(options.directory, { source: options.store, allowOther: allowOther() });
    try {
      endRequest.passTo(server);
      await server.serve(device, filesUnchecked);
      return { server, device, log: createLog(logFd, 'keeper') };
    } catch (error) {
      await server.kill();
      backend.unmount(options.directory, { lazy: true });
      closeSync(device);
      throw error;
    }
  } catch (error) {
    await server.kill();
    throw error;
  }
}

/** Until the server has ended, and with it, unless it died, the mount. */
async function keep(
  options: MountOptions,
  store: Store,
  { server, device, log }: Mounted,
  onReady: () => void,
): Promise<number> {
  const session = { mountpoint: options.directory, keeperPid: process.pid, serverPid: server.pid, sinceMs: Date.now() };
  await tryTo(log, () => writeFileAtomic(store.layout.session, `${JSON.stringify(session)}\n`));
  log(`serving ${options.directory}`);
  onReady();

  const end = await server.ended;
  closeSync(device);
  await tryTo(log, () => rmSync(store.layout.session, { force: true }));
  if (end === 0) {
    log('unmounted');
    return 0;
  }
  log(`the server ended with ${end} while mounted: the mount answers no more, until it is unmounted and mounted again`);
  return 1;
}

/** The session file is for people who look into the store: a disk that takes no changes is no reason to end. */
async function tryTo(log: Log, work: () => Promise<void> | void): Promise<void> {
  try {
    await work();
  } catch (error) {
    log(`error: ${describe(error)}`);
  }
}
