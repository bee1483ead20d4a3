/**
 * Which directories are siteswap mounts, from /proc/self/mountinfo alone: asking the mount itself could wait for a
 * server that is dead. `parseMountinfo` is pure; the others read.
 */
import { readFileSync } from 'node:fs';

export const FILESYSTEM_TYPE = 'fuse.siteswap';

export interface SiteswapMount {
  mountpoint: string;
  /** The store that is served there. */
  store: string;
  /** `major:minor`: as in /proc/<pid>/maps, and the minor is the connection's name below /sys/fs/fuse/connections. */
  device: string;
}

interface Mount {
  id: string;
  parent: string;
  device: string;
  mountpoint: string;
  type: string;
  source: string;
}

function parseLines(text: string): Mount[] {
  const mounts: Mount[] = [];
  for (const line of text.split('\n')) {
    // 36 35 98:0 /root /mountpoint rw,noatime [optional …] - type source options
    const [left, right] = line.split(' - ', 2);
    const [id, parent, device, , mountpoint] = left?.split(' ') ?? [];
    const [type, source = ''] = right?.split(' ') ?? [];
    if (!id || !parent || !device || !mountpoint || !type) continue;
    mounts.push({ id, parent, device, mountpoint: unescapePath(mountpoint), type, source: unescapePath(source) });
  }
  return mounts;
}

/** In the order of mounting: of two over one directory, the later one is visible. */
export function parseMountinfo(text: string): SiteswapMount[] {
  return parseLines(text)
    .filter(({ type, source }) => type === FILESYSTEM_TYPE && source !== '')
    .map(({ mountpoint, source, device }) => ({ mountpoint, store: source, device }));
}

/** The kernel writes space, tab, newline and backslash as three octal digits; other bytes as they are. */
function unescapePath(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_match, octal: string) => String.fromCharCode(parseInt(octal, 8)));
}

export function listMounts(): SiteswapMount[] {
  return parseMountinfo(readMountinfo());
}

export function isMountedOver(directory: string): boolean {
  return listMounts().some(({ mountpoint }) => mountpoint === directory);
}

/** What is mounted on siteswap's mount over `directory`, not on what lies under that. */
export function parseMountedOn(text: string, directory: string): string[] {
  const mounts = parseLines(text);
  const ours = mounts.findLast(({ mountpoint, type }) => type === FILESYSTEM_TYPE && mountpoint === directory);
  return mounts.filter(({ parent }) => parent === ours?.id).map(({ mountpoint }) => mountpoint);
}

export function mountedOn(directory: string): string[] {
  return parseMountedOn(readMountinfo(), directory);
}

function readMountinfo(): string {
  return readFileSync('/proc/self/mountinfo', 'utf8');
}

/** The innermost siteswap mount that the path lies in, or is. `path` is absolute and resolved. */
export function findMount(path: string, mounts = listMounts()): SiteswapMount | null {
  let found: SiteswapMount | null = null;
  for (const mount of mounts) {
    const inside = path === mount.mountpoint || path.startsWith(`${mount.mountpoint.replace(/\/$/, '')}/`);
    if (inside && (!found || mount.mountpoint.length >= found.mountpoint.length)) found = mount;
  }
  return found;
}
