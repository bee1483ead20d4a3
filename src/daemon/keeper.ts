/**
 * The keeper: starts the server, prepares the store while that loads, mounts, and outlives it. It holds the /dev/fuse
 * descriptor, so the kernel's connection does not break with the server, and unmounts when the server asks.
 *
 * Invariants: its cwd, files and mappings are outside of the mount; it never looks into the mount. When the server dies
 * without an unmount, the keeper ends too and the mount answers ENOTCONN: a crash never silently shows the old packages.
 */
import { closeSync, openSync, rmSync } from 'node:fs';
import { loadBackend } from '../fuse/backend.js';
import { writeFileAtomic } from '../store/atomic-fs.js';
import type { Store } from '../store/store.js';
import { SiteswapError } from '../util/errors.js';
import type { MountOptions } from './keeper-protocol.js';
import { createLog } from './log.js';
import { allowOther, open, prepare, type Report } from './prepare.js';
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
  try {
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
        return await keep(options, store, server, logFd, onReady);
      } catch (error) {
        await server.kill();
        backend.unmount(options.directory, { lazy: true });
        throw error;
      } finally {
        closeSync(device);
      }
    } catch (error) {
      await server.kill();
      throw error;
    }
  } catch (error) {
    await opened.undo();
    throw error;
  }
}

async function keep(
  options: MountOptions,
  store: Store,
  server: ServerProcess,
  logFd: number,
  onReady: () => void,
): Promise<number> {
  const log = createLog(logFd, 'keeper');
  await writeFileAtomic(
    store.layout.session,
    `${JSON.stringify({ mountpoint: options.directory, keeperPid: process.pid, serverPid: server.pid, sinceMs: Date.now() })}\n`,
  );
  log(`serving ${options.directory}`);
  onReady();

  const end = await server.ended;
  rmSync(store.layout.session, { force: true });
  if (end === 0) {
    log('unmounted');
    return 0;
  }
  log(`the server ended with ${end} while mounted: the mount answers no more, until it is unmounted and mounted again`);
  return 1;
}
