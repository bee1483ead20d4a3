/**
 * Other places where the same mount is to be seen: bind mounts, and mount namespaces that were made while it was there.
 * Unmounting one leaves the others, and the daemon serves as long as there is any. From mount tables only: a mount is never
 * touched.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { parseMountinfo, type SiteswapMount } from './mountinfo.js';

/** Mountpoints of the others in the same table. The mount at `directory` is the first of it that lies there. */
export function copiesAmong(
  mounts: readonly SiteswapMount[],
  { directory, store }: { directory: string; store: string },
): string[] {
  const original = mounts.find((mount) => mount.mountpoint === directory && mount.store === store);
  return mounts
    .filter((mount) => mount !== original && mount.device === original?.device)
    .map(({ mountpoint }) => mountpoint);
}

/** `pid` is one of the processes that see it at `mountpoint`. */
export interface Copy {
  pid: number;
  command: string;
  mountpoint: string;
}

/** All that is left of a mount, a process for each mount namespace. Of processes that may be looked at. */
export function findCopies({ device, store }: SiteswapMount): Copy[] {
  const copies: Copy[] = [];
  const namespaces = new Set<string>();
  for (const name of readdirSync('/proc')) {
    if (!/^[1-9][0-9]*$/.test(name)) continue;
    try {
      const namespace = readlinkSync(`/proc/${name}/ns/mnt`);
      if (namespaces.has(namespace)) continue;
      const mounts = parseMountinfo(readFileSync(`/proc/${name}/mountinfo`, 'utf8'));
      namespaces.add(namespace);
      const command = readFileSync(`/proc/${name}/comm`, 'utf8').trim();
      for (const mount of mounts) {
        if (mount.device === device && mount.store === store) {
          copies.push({ pid: Number(name), command, mountpoint: mount.mountpoint });
        }
      }
    } catch {
      // It has ended, or is somebody else's.
    }
  }
  return copies;
}
