/**
 * What /proc tells about a process and its ancestors, for deciding who a writer is.
 *
 * `parseStat`, `parseUid` and `parseCommandLine` are pure; `readProcess` and `readChain` read. Reading cmdline takes the
 * process's mmap lock, which one of its threads may hold while it waits for a page of ours: such pages are served without
 * JavaScript, so the wait is short. An executable may lie under our own mount: the link is read and never followed.
 */
import { readFileSync, readlinkSync } from 'node:fs';

export interface ProcessInfo {
  pid: number;
  /** 0 for a process without a parent that can be seen. */
  parentPid: number;
  /** The kernel's short name, at most 15 bytes. */
  comm: string;
  /** Empty for kernel threads and zombies. */
  argv: string[];
  /** Null when it may not be read. */
  exe: string | null;
  /** Real user id. */
  uid: number;
  /** Start time in clock ticks since boot: with the pid, the identity. */
  startTicks: bigint;
  /** A zombie has ended and does nothing any more. */
  state: string;
}

/** The fields of /proc/<pid>/stat that are needed, or null for text that no kernel writes. */
export function parseStat(
  text: string,
): { pid: number; comm: string; state: string; parentPid: number; startTicks: bigint } | null {
  // The command may hold anything, ") " too; no later field holds a parenthesis.
  const match = /^(\d+) \(([^]*)\) (\S) (\d+) ((?:\S+ ){17})(\d+)(?: [^()]*)?$/.exec(text.trimEnd());
  if (!match) return null;
  const [, pid, comm, state, parentPid, , startTicks] = match;
  return {
    pid: Number(pid),
    comm: comm ?? '',
    state: state ?? '',
    parentPid: Number(parentPid),
    startTicks: BigInt(startTicks ?? 0),
  };
}

/** The real user id in /proc/<pid>/status. */
export function parseUid(text: string): number | null {
  const match = /^Uid:\s+(\d+)/m.exec(text);
  return match ? Number(match[1]) : null;
}

/** /proc/<pid>/cmdline: NUL-terminated arguments. A program that rewrote it may have left one string with blanks. */
export function parseCommandLine(bytes: Buffer): string[] {
  if (bytes.length === 0) return [];
  const argv = bytes.toString('utf8').split('\0');
  while (argv.length > 1 && argv.at(-1) === '') argv.pop();
  return argv;
}

/** Null when there is no such process (any more). */
export function readProcess(pid: number): ProcessInfo | null {
  const folder = `/proc/${pid}`;
  try {
    const before = parseStat(readFileSync(`${folder}/stat`, 'utf8'));
    const argv = parseCommandLine(readFileSync(`${folder}/cmdline`));
    const exe = readExecutable(folder);
    const uid = parseUid(readFileSync(`${folder}/status`, 'utf8'));
    const after = parseStat(readFileSync(`${folder}/stat`, 'utf8'));
    // Another process got the number while we read: what was read is nobody's.
    if (!before || !after || after.startTicks !== before.startTicks || uid === null) return null;
    return { ...before, argv, exe, uid };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ESRCH' || code === 'EACCES' || code === 'EPERM') return null;
    throw error;
  }
}

/** Needs ptrace access; kernel threads and zombies have none. */
function readExecutable(folder: string): string | null {
  try {
    return readlinkSync(`${folder}/exe`);
  } catch {
    return null;
  }
}

/** Deeper chains are somebody's accident; what lies above is not looked at. */
const MAX_CHAIN = 64;

/** The process and its ancestors, itself first, up to process 1 (in a container that may be an installer), without those in `stopAt`. */
export function readChain(pid: number, stopAt: ReadonlySet<number> = new Set()): ProcessInfo[] {
  const chain: ProcessInfo[] = [];
  for (let next = pid; next >= 1 && !stopAt.has(next) && chain.length < MAX_CHAIN;) {
    const process = readProcess(next);
    if (!process) break;
    // A parent started before its child; a number that was reused since started after it.
    const child = chain.at(-1);
    if (child && process.startTicks > child.startTicks) break;
    chain.push(process);
    next = process.parentPid;
  }
  return chain;
}
