/**
 * `siteswap unmount`: shows the original directory again. Returns when the mount is gone and the store is free, so that
 * a `mount` may follow at once. A server that is dead or silent is no obstacle with --force.
 */
import { closeSync, existsSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { listMounts, type SiteswapMount } from '../../daemon/mountinfo.js';
import { loadBinding } from '../../native/load.js';
import { StoreLayout } from '../../store/layout.js';
import { acquireLock } from '../../store/lock.js';
import { describe, SiteswapError } from '../../util/errors.js';
import { tell, warn } from '../output.js';
import { ask, mounted } from '../target.js';

const GONE_TIMEOUT_MS = 10_000;
const POLL_MS = 20;
const SERVER_DEAD: readonly string[] = ['SERVER_SILENT', 'NOT_MOUNTED'];

interface Options {
  force?: true;
  lazy?: true;
  purge?: true;
}

export function addUnmount(program: Command): void {
  program
    .command('unmount')
    .description('show the original directory again; the store stays for a later mount')
    .argument('[DIR]', 'the mount; default: the active environment')
    .option('--force', 'drop open transactions, and end a server that does not answer')
    .option('--lazy', 'also while files of it are in use: the mount goes away when they are closed')
    .option('--purge', 'delete the store too: layers, history, everything that was installed')
    .action(async (dir: string | undefined, options: Options) => {
      await unmount(await mounted(dir), options);
    });
}

async function unmount(mount: SiteswapMount, options: Options): Promise<void> {
  const { mountpoint, store } = mount;
  try {
    await ask(store, 'unmount', { force: options.force ?? false, lazy: options.lazy ?? false });
  } catch (error) {
    if (!(error instanceof SiteswapError) || !SERVER_DEAD.includes(error.code)) throw error;
    if (!options.force) {
      const message = `the server of ${mountpoint} does not answer`;
      throw new SiteswapError('SERVER_SILENT', message, `siteswap unmount --force ${mountpoint}`, { cause: error });
    }
    warn(`the server of ${mountpoint} does not answer: ending the mount without it`);
    detach(mount);
  }
  await poll(() => !isMounted(mount), `${mountpoint} is still mounted`);
  // Detached, it is served until the last of its files is closed.
  if (!options.lazy) await poll(() => isStoreFree(store), `the daemon of ${mountpoint} has not ended`);
  if (options.purge) purge(store);
  tell(`unmounted ${mountpoint}`);
}

/** For a mount whose server is dead or hangs. */
function detach({ mountpoint, device }: SiteswapMount): void {
  const abort = `/sys/fs/fuse/connections/${device.split(':')[1]}/abort`;
  try {
    // Whoever waits for an answer gets an error now; the abort file is its owner's.
    if (existsSync(abort)) writeFileSync(abort, '1');
  } catch (error) {
    warn(`${abort}: ${describe(error)}`);
  }
  loadBinding().unmountFuse(mountpoint, { lazy: true });
}

function isMounted({ mountpoint, device }: SiteswapMount): boolean {
  return listMounts().some((mount) => mount.mountpoint === mountpoint && mount.device === device);
}

/** Takes the store's lock, does `work`, and drops it again; false when somebody else has it. */
function withLock(store: string, work: () => void): boolean {
  const layout = new StoreLayout(store);
  if (!existsSync(layout.lock)) return true;
  let fd: number;
  try {
    fd = acquireLock(layout, (lock) => loadBinding().tryLock(lock));
  } catch (error) {
    if (error instanceof SiteswapError && error.code === 'STORE_IN_USE') return false;
    throw error;
  }
  try {
    work();
  } finally {
    closeSync(fd);
  }
  return true;
}

function isStoreFree(store: string): boolean {
  return withLock(store, () => {});
}

function purge(store: string): void {
  if (!existsSync(new StoreLayout(store).format)) {
    throw new SiteswapError('NOT_MOUNTED', `${store} is no siteswap store: not deleted`);
  }
  if (!withLock(store, () => rmSync(store, { recursive: true }))) {
    throw new SiteswapError('STORE_IN_USE', `the store ${store} is in use: not deleted`, `Delete it when it is free.`);
  }
}

async function poll(done: () => boolean, otherwise: string): Promise<void> {
  const deadline = Date.now() + GONE_TIMEOUT_MS;
  while (!done()) {
    if (Date.now() > deadline) throw new SiteswapError('TIMED_OUT', otherwise, 'See server.log in the store.');
    await sleep(POLL_MS);
  }
}
