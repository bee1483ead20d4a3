/**
 * From the DIR that the user gave (or left out) to the mount or the directory that is meant.
 *
 * Invariant: a mountpoint whose server may be dead is never touched. Symbolic links are followed one at a time, and
 * the mount table is asked before each next one.
 */
import { readlinkSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import type { Method, Params, Progress, Result } from '../daemon/control-protocol.js';
import { findMount, type SiteswapMount } from '../daemon/mountinfo.js';
import { defaultSitePackages } from '../python/environment.js';
import { defaultStorePath, StoreLayout } from '../store/layout.js';
import { describe, SiteswapError, systemCode } from '../util/errors.js';

const MAX_LINKS = 40;
const NAME_A_DIRECTORY = 'Name an existing site-packages directory or environment.';
const AS_OWNER = 'Run as root or as the user who mounted.';

export interface Target {
  /** Absolute, resolved. */
  directory: string;
  /** The mount over the directory itself or over one that holds it. */
  mount: SiteswapMount | null;
}

export async function locate(dir: string | undefined): Promise<Target> {
  let path = resolve(dir ?? (await defaultSitePackages()));
  for (let links = 0; links <= MAX_LINKS; links++) {
    const candidate = path === '/' ? path : join(realDirectory(dirname(path)), basename(path));
    const mount = findMount(candidate);
    if (mount?.mountpoint === candidate) return { directory: candidate, mount };
    const target = linkTarget(candidate);
    if (target === null) return { directory: candidate, mount };
    path = isAbsolute(target) ? target : resolve(dirname(candidate), target);
  }
  throw new SiteswapError('NO_DIRECTORY', `${path}: too many symbolic links`, NAME_A_DIRECTORY);
}

function realDirectory(path: string): string {
  try {
    return realpathSync(path);
  } catch (error) {
    throw noDirectory(path, error);
  }
}

function linkTarget(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch (error) {
    if (systemCode(error) === 'EINVAL') return null;
    throw noDirectory(path, error);
  }
}

export function noDirectory(path: string, error: unknown): SiteswapError {
  const code = systemCode(error);
  const why = code === 'ENOENT' ? 'does not exist' : code === 'ENOTDIR' ? 'is not a directory' : describe(error);
  return new SiteswapError('NO_DIRECTORY', `${path} ${why}`, NAME_A_DIRECTORY, { cause: error });
}

/** Refuses what is no directory. Only for a directory that is not mounted over. */
export function requireDirectory(path: string): void {
  let isDirectory: boolean;
  try {
    isDirectory = statSync(path).isDirectory();
  } catch (error) {
    throw noDirectory(path, error);
  }
  if (!isDirectory) throw new SiteswapError('NO_DIRECTORY', `${path} is not a directory`, NAME_A_DIRECTORY);
}

/** The mount that DIR is in; an error when there is none. */
export async function mounted(dir: string | undefined): Promise<SiteswapMount> {
  const { directory, mount } = await locate(dir);
  if (mount) return mount;
  throw notMounted(directory);
}

export function notMounted(directory: string): SiteswapError {
  return new SiteswapError('NOT_MOUNTED', `siteswap is not mounted over ${directory}`, `siteswap mount ${directory}`);
}

/** The mount that DIR is in, or else the store that a former mount of DIR left; an error when there is neither. */
export async function mountOrStore(
  dir: string | undefined,
  store: string | undefined,
): Promise<{ mount: SiteswapMount } | { mount: null; directory: string; store: string }> {
  const { directory, mount } = await locate(dir);
  if (mount === null) {
    const path = store === undefined ? defaultStorePath(directory) : resolve(store);
    if (isStore(path)) return { mount, directory, store: path };
    throw store === undefined
      ? notMounted(directory)
      : new SiteswapError(
          'NOT_MOUNTED',
          `${path} is no siteswap store`,
          'Give the one that was named to `mount --store`.',
        );
  }
  if (store !== undefined && resolve(store) !== mount.store) {
    const message = `the mount over ${mount.mountpoint} has another store: ${mount.store}`;
    throw new SiteswapError('USAGE', message, 'Leave out --store.');
  }
  return { mount };
}

/** A directory that has a store's first two files, whatever version or state it is in. */
export function isStore(path: string): boolean {
  const layout = new StoreLayout(path);
  try {
    return statSync(layout.format).isFile() && statSync(layout.lock).isFile();
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return false;
    throw new SiteswapError('ACCESS_DENIED', `no access to the store ${path}: ${code ?? describe(error)}`, AS_OWNER, {
      cause: error,
    });
  }
}

/** One question to the server of a store. */
export async function ask<M extends Method>(
  store: string,
  method: M,
  params: Params<M>,
  onEvent?: (event: Progress) => void,
): Promise<Result<M>> {
  // `mount` locates its directory too, and mostly has nothing to ask.
  const { ControlClient } = await import('../daemon/control-client.js');
  const client = await ControlClient.connect(store);
  try {
    return await client.request(method, params, onEvent);
  } finally {
    client.close();
  }
}
