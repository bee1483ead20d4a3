/** The processes that serve a mount, and what CPU they have used: read from /proc, never through the mount. */
import { readdirSync, readFileSync } from 'node:fs';

/** Those that have the mountpoint on their command line: the bench starts nothing else that stays. */
export function serversOf(mountpoint: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && read(`/proc/${name}/cmdline`).includes(mountpoint))
    .map(Number);
}

/** Of all their threads together, in the scheduler's own resolution. */
export function cpuSeconds(pids: readonly number[]): number {
  let total = 0;
  for (const pid of pids) {
    for (const thread of threadsOf(pid)) {
      total += Number(read(`/proc/${pid}/task/${thread}/schedstat`).split(' ')[0] ?? 0) / 1e9;
    }
  }
  return total;
}

function threadsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
}

/** Empty when it is gone. */
function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
