/**
 * What siteswap's own operations cost, for which other filesystems have no counterpart: mounting, committing, what a reader
 * notices of a commit, the server's memory and CPU; each against the size of the tree.
 *
 * The trees have empty files, and are made once in the cache directory. Their stores lie beside them and are removed.
 */
import { existsSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ask } from '../../src/cli/target.js';
import { measureCommit, type CommitCost } from './commit-cost.js';
import { run, WORK } from './program.js';
import { cpuSeconds } from './servers.js';
import { CLI } from './siteswap-subject.js';
import type { Materials } from './stack.js';
import { duration } from './table.js';
import { spreadOf } from './statistics.js';

export interface OwnContext {
  work: string;
  cache: string;
  materials: Materials;
  rounds: number;
  quick: boolean;
  /** Told at once: the next size may fail or take long. */
  found: (result: OwnResult) => void;
}

export interface OwnResult {
  name: string;
  text: string;
  values: Record<string, unknown>;
}

export interface OwnCost {
  name: string;
  title: string;
  run: (context: OwnContext) => Promise<void>;
}

const IDLE_MS = 3000;
const CHANGED = 1500;

async function treeOf(entries: number, { cache, materials }: OwnContext): Promise<string> {
  const path = join(cache, `entries-${entries}`);
  if (existsSync(path)) return path;
  rmSync(`${path}.part`, { recursive: true, force: true });
  await run(['mkdir', `${path}.part`]);
  await run([materials.interpreter, '-I', '-S', WORK, 'make-tree', `${path}.part`, String(entries)]);
  renameSync(`${path}.part`, path);
  return path;
}

/** Mounted with a new store for as long as `use` takes. */
async function mounted<T>(tree: string, store: string, use: (mountSeconds: number) => Promise<T>): Promise<T> {
  const { wallSeconds } = await run([...CLI, 'mount', '--verify', 'none', '--store', store, tree]);
  try {
    return await use(wallSeconds);
  } finally {
    await run([...CLI, 'unmount', tree]);
  }
}

const sizes = ({ quick }: OwnContext): number[] => (quick ? [10_000] : [10_000, 100_000, 1_000_000]);

async function mountTimes(context: OwnContext): Promise<void> {
  const startSeconds = (await run([...CLI, '--version'])).wallSeconds;
  for (const entries of sizes(context)) {
    const tree = await treeOf(entries, context);
    const first: number[] = [];
    const second: number[] = [];
    for (let round = 0; round < Math.min(context.rounds, 3); ++round) {
      const store = join(context.work, 'store-mount');
      first.push(await mounted(tree, store, (seconds) => Promise.resolve(seconds)));
      second.push(await mounted(tree, store, (seconds) => Promise.resolve(seconds)));
      rmSync(store, { recursive: true });
    }
    const [one, two] = [spreadOf(first), spreadOf(second)];
    context.found({
      name: 'mount',
      text: `${entries} entries: first time ${duration(one.median)}, then ${duration(two.median)} (starting node: ${duration(startSeconds)})`,
      values: { entries, first, second, startSeconds },
    });
  }
}

interface Memory {
  residentBytes: number;
  anonymousBytes: number;
}

function memoryOf(pid: number): Memory {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  const bytes = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? NaN) * 1024;
  return { residentBytes: bytes('Rss'), anonymousBytes: bytes('Anonymous') };
}

async function memory(context: OwnContext): Promise<void> {
  let empty: Memory | null = null;
  const mib = (bytes: number): string => `${(bytes / (1 << 20)).toFixed(1)} MiB`;
  for (const entries of [0, ...sizes(context)]) {
    const tree = await treeOf(entries, context);
    const store = join(context.work, 'store-memory');
    // The second mount: reading the directory is another matter, over when it serves.
    await mounted(tree, store, () => Promise.resolve());
    const [fresh, walked] = await mounted(tree, store, async () => {
      const { serverPid } = await ask(store, 'status', {});
      const before = memoryOf(serverPid);
      await run([context.materials.interpreter, '-I', '-S', WORK, 'walk', tree]);
      return [before, memoryOf(serverPid)] as const;
    });
    rmSync(store, { recursive: true });
    empty ??= walked;
    const over = walked.residentBytes - empty.residentBytes;
    const per = entries === 0 ? '' : `, ${mib((over / entries) * 100_000)} per 100,000 entries over the empty mount`;
    context.found({
      name: 'memory',
      text:
        `${entries} entries: resident ${mib(fresh.residentBytes)} when mounted, ${mib(walked.residentBytes)} after a walk` +
        ` (of it not backed by files: ${mib(walked.anonymousBytes)})${per}`,
      values: { entries, fresh, walked },
    });
  }
}

async function idle(context: OwnContext): Promise<void> {
  const tree = await treeOf(sizes(context)[0]!, context);
  const store = join(context.work, 'store-idle');
  const seconds = await mounted(tree, store, async () => {
    const { serverPid } = await ask(store, 'status', {});
    const before = cpuSeconds([serverPid]);
    await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
    return cpuSeconds([serverPid]) - before;
  });
  rmSync(store, { recursive: true });
  const text = `${duration(seconds)} of CPU in ${IDLE_MS / 1000} s when nobody asks`;
  context.found({ name: 'idle', text, values: { seconds, ofMs: IDLE_MS } });
}

async function commits(context: OwnContext): Promise<void> {
  const all = sizes(context);
  const cases = all.map((entries) => ({ entries, files: CHANGED }));
  for (const files of [1, 15, 150]) cases.push({ entries: all[Math.min(1, all.length - 1)]!, files });
  for (const { entries, files } of cases) {
    const tree = await treeOf(entries, context);
    const store = join(context.work, 'store-commit');
    const costs = await mounted(tree, store, async () => {
      const found: CommitCost[] = [];
      for (let round = 0; round < Math.min(context.rounds, 5); ++round) {
        const directory = join(tree, `bench_new_${round}`);
        found.push(await measureCommit({ store, tree, directory, files, interpreter: context.materials.interpreter }));
      }
      return found;
    });
    rmSync(store, { recursive: true });
    context.found({
      name: 'commit',
      text: `${files} files into ${entries} entries: ${describe(costs)}`,
      values: { entries, files, costs },
    });
  }
}

function describe(costs: readonly CommitCost[]): string {
  const median = (of: (cost: CommitCost) => number): number => spreadOf(costs.map(of)).median;
  const steps = Object.keys(costs[0]?.steps ?? {});
  const parts = steps.map((name) => `${name} ${duration(median(({ steps: own }) => own[name] ?? 0))}`);
  const stall = median(({ stallSeconds }) => stallSeconds);
  const usual = median(({ usualStallSeconds }) => usualStallSeconds);
  const written = duration(median(({ writeSeconds }) => writeSeconds));
  return (
    `${duration(median(({ seconds }) => seconds))} (${parts.join(', ')}); writing them ${written}; ` +
    `a reader’s longest wait around the swap ${duration(stall)} (as long before, without a commit: ${duration(usual)})`
  );
}

export const OWN_COSTS: readonly OwnCost[] = [
  { name: 'mount', title: 'mount', run: mountTimes },
  { name: 'commit', title: 'commit', run: commits },
  { name: 'memory', title: 'memory of the server', run: memory },
  { name: 'idle', title: 'CPU of the server', run: idle },
];
