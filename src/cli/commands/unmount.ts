/**
 * `siteswap unmount`: shows the original directory again. Returns when the mount is gone and the store is free, so that
 * a `mount` may follow at once. A server that is dead or silent is no obstacle with --force; with --purge, neither is a
 * mount that is gone already: only its store is left then.
 */
import { closeSync, existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { listMounts, type SiteswapMount } from '../../daemon/mountinfo.js';
import { loadBinding } from '../../native/load.js';
import { StoreLayout } from '../../store/layout.js';
import { acquireLock } from '../../store/lock.js';
import { describe, SiteswapError } from '../../util/errors.js';
import { UNMOUNT_TIMEOUT_MS } from '../../util/limits.js';
import { tell, warn } from '../output.js';
import { ask, isStore, mounted, mountOrStore } from '../target.js';

const POLL_MS = 20;
const SERVER_DEAD: readonly string[] = ['SERVER_SILENT', 'NOT_MOUNTED'];

interface Options {
  force?: true;
  lazy?: true;
  purge?: true;
  store?: string;
}

export function addUnmount(program: Command): void {
  program
    .command('unmount')
    .description('show the original directory again; the store stays for a later mount')
    .argument('[DIR]', 'the mount; default: the active environment')
    .option('--force', 'drop open transactions, and end a server that does not answer')
    .option('--lazy', 'also while files of it are in use: the mount goes away when they are closed')
    .option('--purge', 'delete the store too: layers, history, everything that was installed')
    .option('--store <DIR>', 'with --purge: which one, when DIR is not mounted; default: .NAME.siteswap beside DIR')
    .action(async (dir: string | undefined, options: Options) => {
      if (!options.purge) {
        await unmount(await mounted(dir), options);
        return;
      }
      const found = await mountOrStore(dir, options.store);
      if (found.mount) await unmount(found.mount, options);
      else purge(found.store);
    });
}

async function unmount(mount: SiteswapMount, options: Options): Promise<void> {
  const { mountpoint, store } = mount;
  try {
    await ask(store, 'unmount', { force: options.force ?? false, lazy: options.lazy ?? false });
  } catch (error) {
    if (!(error instanceof SiteswapError) || !SERVER_DEAD.includes(error.code)) throw error;
    // A server whose mount is gone ends, maybe before the kernel has given back all that it had cached, and so before
    // the answer.
    if (!isMounted(mount)) return finish(mount, options);
    if (!options.force) {
      const message = `the server of ${mountpoint} does not answer`;
      throw new SiteswapError('SERVER_SILENT', message, `siteswap unmount --force ${mountpoint}`, { cause: error });
    }
    warn(`the server of ${mountpoint} does not answer: ending the mount without it`);
    detach(mount);
  }
  await finish(mount, options);
}

async function finish(mount: SiteswapMount, options: Options): Promise<void> {
  const { mountpoint, store } = mount;
  await poll(() => !isMounted(mount), `${mountpoint} is still mounted`);
  // Detached, it is served until the last of its files is closed.
  if (!options.lazy) await poll(() => isStoreFree(store), `the daemon of ${mountpoint} has not ended`);
  tell(`unmounted ${mountpoint}`);
  if (options.purge) purge(store);
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

/** Where the store is was told by the mount table, and anybody can have mounted: only what looks like one is deleted. */
function purge(store: string): void {
  if (!isStore(store)) throw new SiteswapError('NOT_MOUNTED', `${store} is no siteswap store: not deleted`);
  if (!withLock(store, () => deleteStore(new StoreLayout(store)))) {
    throw new SiteswapError('STORE_IN_USE', `the store ${store} is in use: not deleted`, `Delete it when it is free.`);
  }
  tell(`deleted the store ${store}`);
}

/** What makes it a store goes last, so that a deletion that was cut short can be done again. */
function deleteStore({ root, format, lock }: StoreLayout): void {
  for (const name of readdirSync(root)) {
    const path = join(root, name);
    if (path !== format && path !== lock) rmSync(path, { recursive: true });
  }
  rmSync(root, { recursive: true });
}

async function poll(done: () => boolean, otherwise: string): Promise<void> {
  const deadline = Date.now() + UNMOUNT_TIMEOUT_MS;
  while (!done()) {
    if (Date.now() > deadline) throw new SiteswapError('TIMED_OUT', otherwise, 'See server.log in the store.');
    await sleep(POLL_MS);
  }
}
