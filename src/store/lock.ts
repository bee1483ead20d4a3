/** `lock`: at most one daemon uses a store. The kernel drops the lock with the last copy of the descriptor. */
import { closeSync, constants, openSync } from 'node:fs';
import { SiteswapError } from '../util/errors.js';
import type { StoreLayout } from './layout.js';

/** Node has no flock(2): the caller brings the addon's. */
export type TryLock = (fd: number) => boolean;

/** Returns the descriptor that holds the lock. */
export function acquireLock(layout: StoreLayout, tryLock: TryLock): number {
  const fd = openSync(layout.lock, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  if (tryLock(fd)) return fd;
  closeSync(fd);
  throw new SiteswapError(
    'STORE_IN_USE',
    `the store ${layout.root} is in use by another siteswap daemon`,
    'Unmount what it serves (see `mount -t fuse.siteswap`), or use another store with --store.',
  );
}
