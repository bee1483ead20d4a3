/**
 * Everything that must be right before anything is mounted: the directory, the host, the store, the manifest of the
 * lower. Called by the keeper. Fails with a clear error; then nothing has changed (a store that was made is removed).
 */
import { accessSync, closeSync, constants, openSync, readFileSync, statSync } from 'node:fs';
import type { Backend } from '../fuse/backend.js';
import { remove } from '../store/atomic-fs.js';
import { damaged, damagedManifest } from '../store/read.js';
import { Store } from '../store/store.js';
import { asStoreError, describe, SiteswapError, systemCode } from '../util/errors.js';
import { packageRoot } from '../util/package-root.js';
import type { MountOptions } from './keeper-protocol.js';
import { changedBehind, compareFirst, namedChanges } from './lower-check.js';
import { isMountedOver } from './mountinfo.js';

export interface Report {
  progress: (text: string) => void;
  notice: (text: string) => void;
}

export interface Opened {
  store: Store;
  /** It was never mounted before. */
  isNew: boolean;
  lowerFd: number;
  /** Closes what was opened; a store that is new is deleted. For a mount that fails after this and before it serves. */
  undo: () => Promise<void>;
}

/** What is quick: what is mounted over, and a store that is ours alone. */
export async function open(options: MountOptions, backend: Backend): Promise<Opened> {
  const { directory, store: root } = options;
  refuseMounted(directory);
  checkHost();
  const { dev, ino } = checkDirectory(directory);
  refuseInside(directory, root, 'the store');
  refuseInside(directory, packageRoot(), 'siteswap itself');
  refuseInside(directory, process.execPath, 'the node that runs siteswap');

  const lowerFd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const store = await Store.open(root, { path: directory, dev, ino }, (fd) => backend.tryLock(fd));
    const isNew = store.scannedHead === null;
    const undo = async (): Promise<void> => {
      closeSync(lowerFd);
      // A server that served, but too late to be waited for, may have committed: what can't be made again is not deleted.
      if (isNew && (await store.isUnused().catch(() => false))) await remove(root);
      store.close();
    };
    return { store, isNew, lowerFd, undo };
  } catch (error) {
    closeSync(lowerFd);
    throw cantPrepare(root, error);
  }
}

/** What takes its time: the directory is read, or compared with what the store knows. */
export async function prepare(
  { store, isNew, lowerFd }: Opened,
  options: MountOptions,
  backend: Backend,
  report: Report,
): Promise<{ filesUnchecked: boolean }> {
  try {
    let filesUnchecked = false;
    if (isNew) await scan(store, lowerFd, backend, report);
    else filesUnchecked = await checkStore(store, lowerFd, backend, report);
    await checkGeneration(store, options.generation);
    return { filesUnchecked };
  } catch (error) {
    throw cantPrepare(options.store, error);
  }
}

function cantPrepare(root: string, error: unknown): unknown {
  return asStoreError(error, `the store ${root} can't be prepared`);
}

function refuseMounted(directory: string): void {
  if (!isMountedOver(directory)) return;
  throw new SiteswapError(
    'ALREADY_MOUNTED',
    `siteswap is already mounted over ${directory}`,
    'See `siteswap status`; end it with `siteswap unmount`.',
  );
}

function checkHost(): void {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch (error) {
    throw new SiteswapError(
      'HOST_REQUIREMENT',
      `/dev/fuse can't be used: ${systemCode(error) ?? describe(error)}`,
      'Load the module with `modprobe fuse`; in a container, pass the device in (--device /dev/fuse).',
      { cause: error },
    );
  }
}

function checkDirectory(directory: string): { dev: number; ino: number } {
  let found;
  try {
    found = statSync(directory);
  } catch (error) {
    const code = systemCode(error);
    if (code === 'EACCES')
      throw new SiteswapError('NO_RIGHTS', `no access to ${directory}`, undefined, { cause: error });
    throw new SiteswapError('NO_DIRECTORY', `${directory} can't be mounted over: ${code}`, 'Check the path.', {
      cause: error,
    });
  }
  if (!found.isDirectory())
    throw new SiteswapError('NO_DIRECTORY', `${directory} is not a directory`, 'Check the path.');
  return found;
}

/** What the mount hides can't be needed to serve it: the server would wait for itself. */
function refuseInside(directory: string, path: string, what: string): void {
  if (path !== directory && !path.startsWith(`${directory}/`)) return;
  throw new SiteswapError('USAGE', `${what} lies inside ${directory} (${path})`, 'It must lie outside of the mount.');
}

async function scan(store: Store, lowerFd: number, backend: Backend, report: Report): Promise<void> {
  report.progress('reading the directory');
  const { firstIno, inoCount } = await store.takeStart();
  const manifestPath = store.layout.temporaryManifest(0);
  // What a former scan left that was cut short.
  await remove(manifestPath);
  const result = await backend.scanLower({ lowerFd, manifestPath, firstIno, inoCount }, ({ entries }) =>
    report.progress(`reading the directory: ${entries} entries`),
  );
  await store.writeBase(result.entries, result.maxMtimeNs, Date.now());
}

/** Tells whether files are left to be compared. */
async function checkStore(store: Store, lowerFd: number, backend: Backend, report: Report): Promise<boolean> {
  await store.checkStarts();
  for (const { generation } of await store.history()) {
    // The comparison checks that of generation 0.
    if (generation !== 0) checkManifest(backend, store.layout.manifest(generation), generation);
  }
  report.progress('comparing the directory with the store');
  const { changes, filesUnchecked } = await compareFirst(store, lowerFd, backend);
  await store.recover();
  if (changes.length > 0) {
    if (store.head !== 0 || (await store.keptTransactions()).length > 0) {
      throw new SiteswapError(
        'LOWER_CHANGED',
        changedBehind(changes),
        'Undo the change; or drop the store and all its generations with `siteswap unmount --purge DIR`.',
      );
    }
    report.notice(`the directory has changed since it was last mounted (${namedChanges(changes)}): it is read again`);
    await scan(store, lowerFd, backend, report);
  }
  const isSure = changes.length > 0 || !filesUnchecked;
  if (isSure) await store.forgetLowerChange();
  return !isSure;
}

function checkManifest(backend: Backend, path: string, generation: number): void {
  let found;
  try {
    found = backend.checkManifest(path);
  } catch (error) {
    throw damagedManifest(path, error);
  }
  if (found.generation !== generation) throw damaged(path, `it is of generation ${found.generation}`);
}

async function checkGeneration(store: Store, wanted: number | null): Promise<void> {
  if (wanted === null) return;
  if ((await store.history()).some(({ generation }) => generation === wanted)) return;
  throw new SiteswapError('USAGE', `there is no generation ${wanted}`, `HEAD is ${store.head}; see \`siteswap log\`.`);
}

/** Other users may look into a mount of root's; into one of a user's only if the administrator allowed that. */
export function allowOther(): boolean {
  if (process.geteuid?.() === 0) return true;
  try {
    return /^\s*user_allow_other\s*$/m.test(readFileSync('/etc/fuse.conf', 'utf8'));
  } catch {
    return false;
  }
}
