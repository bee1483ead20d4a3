/** The processes that serve a mount, and what CPU they have used: read from /proc, never through the mount. */
import { readdirSync, readFileSync } from 'node:fs';

/** Those that have the mountpoint on their command line: the bench starts nothing else that stays. */
export function serversOf(mountpoint: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && read(`/proc/${name}/cmdline`).includes(mountpoint))
    .map(Number);
}

const TICKS_PER_SECOND = 100;

/** User and system time of all their threads, those that have ended too. */
export function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    // Behind the name, which may hold anything: state is the first field, user and system time are the 12th and 13th.
    const fields = read(`/proc/${pid}/stat`).split(') ').at(-1)!.split(' ');
    ticks += Number(fields[11] ?? 0) + Number(fields[12] ?? 0);
  }
  return ticks / TICKS_PER_SECOND;
}

/** Empty when it is gone. */
function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
