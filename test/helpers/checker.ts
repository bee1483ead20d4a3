/** Runs the checker (test/checker) as its users do, on a plain directory or on a mount of its own. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Report } from '../checker/report.js';
import { SITESWAP } from './built.js';
import { runProgram, type RunResult } from './venv.js';

const EXTRA_MS = 120_000;

export async function checkPlain(seconds: number, ...flags: string[]): Promise<Report> {
  return inDirectory((directory) => check(directory, seconds, flags));
}

/** `disable`: kernel features to do without. `mountFlags`: of `siteswap mount`. */
export async function checkMount(
  seconds: number,
  { disable = '', mountFlags = [], flags = [] }: { disable?: string; mountFlags?: string[]; flags?: string[] } = {},
): Promise<Report> {
  return inDirectory(async (directory) => {
    const env = { ...process.env, SITESWAP_DISABLE: disable };
    await siteswap(['mount', ...mountFlags, directory], env);
    try {
      return await check(directory, seconds, flags);
    } finally {
      await siteswap(['unmount', '--force', directory], env);
    }
  });
}

async function inDirectory(work: (directory: string) => Promise<Report>): Promise<Report> {
  const scratch = mkdtempSync(join(tmpdir(), 'siteswap-checked-'));
  const directory = join(scratch, 'site-packages');
  mkdirSync(directory);
  try {
    return await work(directory);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function siteswap(args: string[], env: NodeJS.ProcessEnv): Promise<void> {
  expectCode(await runProgram(SITESWAP[0], [SITESWAP[1], ...args], { env }), [0]);
}

async function check(directory: string, seconds: number, flags: string[]): Promise<Report> {
  const args = [
    '--import',
    'tsx',
    resolve('test/checker/main.ts'),
    '--directory',
    directory,
    '--seconds',
    String(seconds),
    '--json',
  ];
  const result = await runProgram(process.execPath, [...args, ...flags], {
    env: process.env,
    timeoutMs: seconds * 1000 + EXTRA_MS,
  });
  expectCode(result, [0, 1]);
  const report = JSON.parse(result.stdout) as Report;
  if (report.violations > 0 !== (result.code === 1)) throw new Error('the exit code does not fit the report');
  return report;
}

function expectCode({ code, signal, stdout, stderr }: RunResult, codes: number[]): void {
  if (code === null || !codes.includes(code)) throw new Error(`ended with ${signal ?? code}:\n${stdout}\n${stderr}`);
}
