/**
 * What a test run left behind: siteswap mounts that were not there before, and processes that carry the run's mark in
 * their environment. Used by `test/run.ts`; never touches a mount or a process of anybody else.
 */

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';

/** Set by the runner for everything it starts. */
export const RUN_MARK = 'SITESWAP_TEST_RUN';

export interface FuseMount {
  mountpoint: string;
  /** Minor device number, which names the connection in /sys/fs/fuse/connections. */
  minor: string;
}

export interface Leftovers {
  mounts: FuseMount[];
  processes: { pid: number; command: string }[];
}

/** The siteswap mounts in the text of a mountinfo file (proc(5)). */
export function fuseMounts(mountinfo: string): FuseMount[] {
  return mountinfo
    .split('\n')
    .map((line) => line.split(' '))
    .filter((fields) => fields[fields.indexOf('-') + 1] === 'fuse.siteswap')
    .map((fields) => ({ mountpoint: unescape(fields[4]!), minor: fields[2]!.split(':')[1]! }));
}

function unescape(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)));
}

function markedProcesses(mark: string): Leftovers['processes'] {
  const found: Leftovers['processes'] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
    try {
      if (!readFileSync(`/proc/${name}/environ`, 'latin1').split('\0').includes(`${RUN_MARK}=${mark}`)) continue;
      const command = readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
      found.push({ pid: Number(name), command });
    } catch {
      // Gone, or not ours to read: then it is not of this run either.
    }
  }
  return found;
}

export function findLeftovers(mark: string, before: FuseMount[]): Leftovers {
  const known = new Set(before.map(({ mountpoint, minor }) => `${minor} ${mountpoint}`));
  const mounts = fuseMounts(readFileSync('/proc/self/mountinfo', 'utf8')).filter(
    ({ mountpoint, minor }) => !known.has(`${minor} ${mountpoint}`),
  );
  return { mounts, processes: markedProcesses(mark) };
}

/** The connections are aborted first: a process that hangs in a request can't be killed before that. */
export function cleanUp({ mounts, processes }: Leftovers): void {
  for (const { minor } of mounts) {
    const abort = `/sys/fs/fuse/connections/${minor}/abort`;
    if (existsSync(abort)) writeFileSync(abort, '1');
  }
  for (const { pid } of processes) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It ended by itself when its mount went.
    }
  }
  for (const { mountpoint } of mounts) spawnSync('umount', ['-l', mountpoint], { stdio: 'inherit' });
}
