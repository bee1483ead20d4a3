/** What a result is worth nothing without: the machine, the kernel, the versions, the load. */
import { readFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { run } from './program.js';

export interface Facts {
  date: string;
  cpu: string;
  cpus: number;
  memoryBytes: number;
  kernel: string;
  filesystem: string;
  node: string;
  python: string;
  commit: string;
  loadBefore: number;
}

export async function gatherFacts(directory: string, python: string): Promise<Facts> {
  return {
    date: new Date().toISOString(),
    cpu: cpuModel(),
    cpus: cpus().length,
    memoryBytes: totalmem(),
    kernel: release(),
    filesystem: (await run(['stat', '-f', '-c', '%T', directory])).stdout.trim(),
    node: process.version,
    python,
    commit: await commit(),
    loadBefore: loadavg()[0]!,
  };
}

function cpuModel(): string {
  return /^model name\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? 'unknown';
}

async function commit(): Promise<string> {
  try {
    const where = new URL('.', import.meta.url).pathname;
    return (await run(['git', 'describe', '--always', '--dirty'], { cwd: where })).stdout.trim();
  } catch {
    return 'unknown'; // not a checkout
  }
}
