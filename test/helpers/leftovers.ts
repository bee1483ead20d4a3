/**
 * What a test run left behind: siteswap mounts in its own temporary directory, and processes that carry its mark in their
 * environment. Used by `test/run.ts`; never touches a mount or a process of anybody else.
 */

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { listMounts, type SiteswapMount } from '../../src/daemon/mountinfo.js';

/** Set by the runner for everything it starts. */
export const RUN_MARK = 'SITESWAP_TEST_RUN';

export interface Leftovers {
  mounts: SiteswapMount[];
  processes: { pid: number; command: string }[];
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

export function findLeftovers(mark: string, work: string): Leftovers {
  const mounts = listMounts().filter(({ mountpoint }) => mountpoint.startsWith(`${work}/`));
  return { mounts, processes: markedProcesses(mark) };
}

/** The connections are aborted first: a process that hangs in a request can't be killed before that. */
export function cleanUp({ mounts, processes }: Leftovers): void {
  for (const { device } of mounts) {
    const abort = `/sys/fs/fuse/connections/${device.split(':')[1]}/abort`;
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
