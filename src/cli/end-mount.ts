/**
 * Ends a mount: returns when it is gone and its store is free, so that a `mount` may follow at once. A server that is
 * dead or silent is no obstacle when it is forced.
 */
import { closeSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import * as v from 'valibot';
import { findCopies } from '../daemon/mount-copies.js';
import { listMounts, type SiteswapMount } from '../daemon/mountinfo.js';
import { describeProcess } from '../daemon/processes.js';
import { loadBinding } from '../native/load.js';
import { StoreLayout } from '../store/layout.js';
import { acquireLock } from '../store/lock.js';
import { asStoreError, describe, SiteswapError } from '../util/errors.js';
import { formatCommand } from '../util/format-command.js';
import { holdsWithin } from '../util/holds-within.js';
import { LOOK_FOR_COPIES_MS, UNMOUNT_TIMEOUT_MS } from '../util/limits.js';
import { warn } from './output.js';
import { ask } from './target.js';

const SEE_LOG = 'See server.log in the store.';
const SERVER_DEAD: readonly string[] = ['SERVER_SILENT', 'NOT_MOUNTED'];

export interface EndOptions {
  /** Drop open transactions, and end a server that does not answer. */
  force?: boolean;
  /** Also while files of it are in use: then it is served until the last of them is closed, and its store is not free. */
  lazy?: boolean;
}

export async function endMount(mount: SiteswapMount, options: EndOptions): Promise<void> {
  const { mountpoint, store } = mount;
  refuseCopy(mount, options);
  try {
    const { remaining, lost } = await ask(store, 'unmount', {
      force: options.force ?? false,
      lazy: options.lazy ?? false,
    });
    for (const sentence of lost) warn(sentence);
    for (const pid of remaining) {
      const command = formatCommand(describeProcess(pid)?.command ?? []);
      warn(`process ${pid} (${command}) still runs: what it writes from now on goes into ${mountpoint} itself`);
    }
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

/** The daemon of a store that is mounted nowhere here: it serves copies in other places, which are cut off. */
export async function endDaemon(store: string): Promise<void> {
  await ask(store, 'unmount', { force: true, lazy: false });
  if (!(await becomesFree(store, UNMOUNT_TIMEOUT_MS))) throw notEnded(store);
}

/** DIR is where somebody has bound the mount to: the daemon knows only the place that it was told. */
function refuseCopy({ mountpoint, store, device }: SiteswapMount, { force }: EndOptions): void {
  const original = servedAt(store);
  if (original === null || original === mountpoint) return;
  const isThere = isMounted({ mountpoint: original, store, device });
  // Nothing else is left to be named.
  if (force && !isThere) return;
  const message = `${mountpoint} is a copy (a bind mount) of the mount over ${original}`;
  const other = isThere ? `siteswap unmount ${original}` : `siteswap unmount --force ${mountpoint}`;
  const hint = `\`umount ${mountpoint}\` takes the copy away; \`${other}\` ends the mount.`;
  throw new SiteswapError('NOT_MOUNTED', message, hint);
}

/** As its keeper wrote it down; null when there is no keeper. */
function servedAt(store: string): string | null {
  try {
    const session = readFileSync(new StoreLayout(store).session, 'utf8');
    return v.parse(v.pipe(v.string(), v.parseJson(), v.object({ mountpoint: v.string() })), session).mountpoint;
  } catch {
    return null;
  }
}

async function finish(mount: SiteswapMount, options: EndOptions): Promise<void> {
  const { mountpoint, store } = mount;
  if (options.force && !options.lazy) {
    if (!(await becomesFree(store, UNMOUNT_TIMEOUT_MS))) throw notEnded(mountpoint);
    // A copy that was cut off stays where it is, and gives errors.
    if (isMounted(mount)) detach(mount);
    return;
  }
  if (!(await holdsWithin(() => !isMounted(mount), UNMOUNT_TIMEOUT_MS))) {
    throw new SiteswapError('TIMED_OUT', `${mountpoint} is still mounted`, SEE_LOG);
  }
  // Detached, it is served until the last of its files is closed.
  if (options.lazy) return;
  const deadline = Date.now() + UNMOUNT_TIMEOUT_MS;
  while (!(await becomesFree(store, LOOK_FOR_COPIES_MS))) {
    refuseCopies(mount);
    if (Date.now() > deadline) throw notEnded(mountpoint);
  }
}

function refuseCopies(mount: SiteswapMount): void {
  const { mountpoint } = mount;
  const copies = findCopies(mount);
  if (copies.length === 0) return;
  const places = copies.map(({ command, pid, mountpoint: at }) => `${at} as ${command} (${pid}) sees it`);
  throw new SiteswapError(
    'BUSY',
    `${mountpoint} is unmounted, but still served: it is mounted over ${places.join(', ')}`,
    `The daemon ends when these have ended or unmounted it; \`siteswap unmount --force ${mountpoint}\` cuts them off.`,
  );
}

function notEnded(what: string): SiteswapError {
  return new SiteswapError('TIMED_OUT', `the daemon of ${what} has not ended`, SEE_LOG);
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
export function withLock(store: string, work: () => void): boolean {
  const layout = new StoreLayout(store);
  if (!existsSync(layout.lock)) return true;
  let fd: number;
  try {
    fd = acquireLock(layout, (lock) => loadBinding().tryLock(lock));
  } catch (error) {
    if (error instanceof SiteswapError && error.code === 'STORE_IN_USE') return false;
    throw asStoreError(error, `whether the store ${store} is free can't be told`);
  }
  try {
    work();
  } finally {
    closeSync(fd);
  }
  return true;
}

/** Whether the daemon lets go of the store within the time: after a lazy unmount it may still have to serve. */
export function becomesFree(store: string, ms: number): Promise<boolean> {
  return holdsWithin(() => withLock(store, () => {}), ms);
}
