/**
 * Which processes keep a mount busy. Reads links and maps in /proc only: the mount itself is never asked, so this also
 * works when its server is stuck. Called by the keeper (never by the server) when an unmount is refused.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

export interface Holder {
  pid: number;
  command: string;
  /** 'cwd', 'root', 'exe', 'open file' or 'mapping'. */
  how: string;
}

/** `ours`: keeper and server, whose descriptors of the lower have the same path. */
export function findHolders(mountpoint: string, ours: ReadonlySet<number> = new Set(), limit = 5): Holder[] {
  const holders: Holder[] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^[1-9][0-9]*$/.test(name) || ours.has(Number(name))) continue;
    const how = heldBy(`/proc/${name}`, mountpoint);
    if (how === null) continue;
    holders.push({
      pid: Number(name),
      command: attempt(() => readFileSync(`/proc/${name}/comm`, 'utf8').trim()) ?? '?',
      how,
    });
    if (holders.length === limit) break;
  }
  return holders;
}

function heldBy(directory: string, mountpoint: string): string | null {
  const inside = (path: string | undefined): boolean => path !== undefined && isInside(path, mountpoint);
  const link = (name: string): string | undefined => attempt(() => readlinkSync(`${directory}/${name}`));
  for (const name of ['cwd', 'root', 'exe']) if (inside(link(name))) return name;
  for (const fd of attempt(() => readdirSync(`${directory}/fd`)) ?? [])
    if (inside(link(`fd/${fd}`))) return 'open file';
  const maps = attempt(() => readFileSync(`${directory}/maps`, 'utf8')) ?? '';
  return mappedPaths(maps).some((path) => isInside(path, mountpoint)) ? 'mapping' : null;
}

/** The sixth column of /proc/<pid>/maps. */
export function mappedPaths(maps: string): string[] {
  return maps.split('\n').flatMap((line) => /^\S+ \S+ \S+ \S+ \S+ +(\/.*)$/.exec(line)?.[1] ?? []);
}

function isInside(path: string, mountpoint: string): boolean {
  return path === mountpoint || path.startsWith(`${mountpoint}/`);
}

/** Processes end while they are looked at, and others' can't be looked at. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
