/**
 * `siteswap unmount`: shows the original directory again. With --purge, a mount that is gone already is no obstacle: only
 * its store is left then. With --force neither, if its daemon still serves copies of it.
 */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import type { SiteswapMount } from '../../daemon/mountinfo.js';
import { StoreLayout } from '../../store/layout.js';
import { SiteswapError } from '../../util/errors.js';
import { becomesFree, endDaemon, endMount, withLock, type EndOptions } from '../end-mount.js';
import { tell } from '../output.js';
import { isStore, mounted, mountOrStore, notMounted } from '../target.js';

/** How long --lazy --purge waits for a daemon that may have nobody left to serve. */
const LAZY_PURGE_MS = 5_000;

interface Options extends EndOptions {
  purge?: true;
  store?: string;
}

export function addUnmount(program: Command): void {
  program
    .command('unmount')
    .description('show the original directory again; the store stays for a later mount')
    .argument('[DIR]', 'the mount; default: the active environment')
    .option('--force', 'drop open transactions, cut off copies of the mount, and end a server that does not answer')
    .option('--lazy', 'also while files of it are in use: the mount goes away when they are closed')
    .option('--purge', 'delete the store too: layers, history, everything that was installed')
    .option('--store <DIR>', 'with --purge: which one, when DIR is not mounted; default: .NAME.siteswap beside DIR')
    .action(async (dir: string | undefined, options: Options) => {
      if (!options.purge && !options.force) {
        await unmount(await mounted(dir), options);
        return;
      }
      const found = await mountOrStore(dir, options.store);
      if (found.mount) await unmount(found.mount, options);
      else await endWithoutMount(found, options);
    });
}

async function unmount(mount: SiteswapMount, options: Options): Promise<void> {
  await endMount(mount, options);
  tell(`unmounted ${mount.mountpoint}`);
  if (!options.purge) return;
  if (options.lazy) await becomesFree(mount.store, LAZY_PURGE_MS);
  purge(mount.store);
}

async function endWithoutMount(
  { directory, store }: { directory: string; store: string },
  options: Options,
): Promise<void> {
  if (options.force && !withLock(store, () => {})) {
    await endDaemon(store);
    tell(`ended the daemon of ${directory}, which was unmounted before`);
  } else if (!options.purge) {
    throw notMounted(directory);
  }
  if (options.purge) purge(store);
}

/** Where the store is was told by the mount table, and anybody can have mounted: only what looks like one is deleted. */
function purge(store: string): void {
  if (!isStore(store)) throw new SiteswapError('NOT_MOUNTED', `${store} is no siteswap store: not deleted`);
  if (!withLock(store, () => deleteStore(new StoreLayout(store)))) {
    throw new SiteswapError(
      'STORE_IN_USE',
      `the store ${store} is in use: not deleted`,
      'When it is free: siteswap unmount --purge.',
    );
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
