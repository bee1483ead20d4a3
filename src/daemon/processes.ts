/** What /proc says about a process that a command names. */
import { readFileSync } from 'node:fs';

export interface ProcessDescription {
  uid: number;
  gid: number;
  command: string[];
}

/** Null when there is no such process. */
export function describeProcess(pid: number): ProcessDescription | null {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    return { uid: effectiveId(status, 'Uid'), gid: effectiveId(status, 'Gid'), command: command.slice(0, -1) };
  } catch {
    return null;
  }
}

/** `Uid:  real  effective  saved  filesystem` */
export function effectiveId(status: string, name: 'Uid' | 'Gid'): number {
  const match = new RegExp(`^${name}:\\s+\\d+\\s+(\\d+)`, 'm').exec(status);
  if (!match) throw new Error(`/proc/<pid>/status has no ${name}`);
  return Number(match[1]);
}
