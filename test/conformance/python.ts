/** Runs this folder's Python programs: each in a process of its own, each with a time limit. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const FOLDER = fileURLToPath(new URL('.', import.meta.url));
const TIMEOUT_MS = 5 * 60_000;

/** Path → what there is to know of it; see `snapshot` in checklib.py. */
export type Tree = Record<string, Record<string, unknown>>;

export interface CheckResult {
  name: string;
  error: string | null;
  seconds: number;
}

export function startPython(program: string, args: string[]) {
  const env = { ...process.env, PYTHONDONTWRITEBYTECODE: '1' };
  return spawn('python3', [join(FOLDER, program), ...args], { stdio: 'pipe', env, timeout: TIMEOUT_MS, cwd: '/' });
}

/** Standard output of a run that must succeed. */
export async function python(program: string, args: string[]): Promise<string> {
  const child = startPython(program, args);
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (stdout += chunk));
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk));
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  assert.equal(signal ?? code, 0, `${program} ${args.join(' ')}: ${stderr}${stdout.slice(-2000)}`);
  return stdout;
}

export async function runChecks(directory: string, tag: string, args: string[] = []): Promise<CheckResult[]> {
  const stdout = await python('posix_checks.py', ['run', directory, tag, ...args]);
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as CheckResult);
}

export async function treeOf(directory: string, options: { whole: boolean }): Promise<Tree> {
  return JSON.parse(
    await python('posix_checks.py', ['tree', directory, ...(options.whole ? ['--whole'] : [])]),
  ) as Tree;
}

/** The same tree without one field of each entry: what can't be compared between filesystems. */
export function without(field: string, tree: Tree): Tree {
  const keep = (item: Tree[string]) => Object.fromEntries(Object.entries(item).filter(([key]) => key !== field));
  return Object.fromEntries(Object.entries(tree).map(([path, item]) => [path, keep(item)]));
}

/** Lines `path: field before → after`; at most 20. */
export function differences(before: Tree, after: Tree): string[] {
  const found: string[] = [];
  for (const path of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [a, b] = [before[path], after[path]];
    if (!a || !b) {
      found.push(`${path}: only ${a ? 'before' : 'after'}`);
      continue;
    }
    for (const field of new Set([...Object.keys(a), ...Object.keys(b)])) {
      const [x, y] = [JSON.stringify(a[field]), JSON.stringify(b[field])];
      if (x !== y) found.push(`${path}: ${field} ${x} → ${y}`);
    }
  }
  return found.slice(0, 20);
}

export interface Workplace {
  /** To be mounted over. */
  directory: string;
  store: string;
  base: string;
  remove(): void;
}

export function makeWorkplace(): Workplace {
  const base = mkdtempSync(join(tmpdir(), 'siteswap-conformance-'));
  chmodSync(base, 0o755); // some checks are another user
  const directory = join(base, 'site-packages');
  const store = join(base, 'store');
  mkdirSync(directory);
  mkdirSync(store);
  return { base, directory, store, remove: () => rmSync(base, { recursive: true, force: true }) };
}
