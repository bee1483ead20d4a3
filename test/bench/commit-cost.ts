/**
 * One commit, step by step as the server reports them, and what a process that reads all the time notices of it.
 *
 * The reader and the server get real-time priority where that is allowed: the scheduler's own delays on a busy machine are
 * longer than what is looked for.
 */
import { spawn, spawnSync, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import * as v from 'valibot';
import { ControlClient } from '../../src/daemon/control-client.js';
import { parseAnswer, WORK } from './program.js';

export interface CommitCost {
  /** From the request to its answer. */
  seconds: number;
  /** By name: until the next one began. */
  steps: Record<string, number>;
  /** What the installer took to write. */
  writeSeconds: number;
  /** The longest that one stat() took from 1 ms before the swap until the commit was answered; and in as long a time before. */
  stallSeconds: number;
  usualStallSeconds: number;
}

export interface CommitOptions {
  store: string;
  tree: string;
  /** To be made. */
  directory: string;
  files: number;
  interpreter: string;
}

const WATCH_MS = 300;
const BEFORE_NS = 1_000_000n;
const stallsSchema = v.object({ count: v.number(), slow: v.array(v.tuple([v.number(), v.number()])) });

type Worker = ChildProcessByStdio<Writable, Readable, null>;

function startWorker(command: readonly string[]): { child: Worker; printed: () => string; closed: Promise<unknown> } {
  const child = spawn(command[0]!, command.slice(1), { stdio: ['pipe', 'pipe', 'inherit'], cwd: '/' });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  return { child, printed: () => text, closed: once(child, 'close') };
}

export async function measureCommit(options: CommitOptions): Promise<CommitCost> {
  const python = [options.interpreter, '-I', '-S', WORK];
  const client = await ControlClient.connect(options.store);
  const writer = startWorker([...python, 'fill', options.directory, String(options.files)]);
  try {
    const { serverPid } = await client.request('status', {});
    spawnSync('chrt', ['-a', '-f', '-p', '1', String(serverPid)]);
    await client.request('begin', { pid: writer.child.pid!, explicit: true });
    writer.child.stdin.write('\n');
    await once(writer.child.stdout, 'data');
    const writeSeconds = parseAnswer(writer.printed()).seconds;

    const reader = startWorker(['chrt', '-f', '1', ...python, 'stalls', ...someNames(options.tree)]);
    await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
    const began = process.hrtime.bigint();
    const marks: [string, bigint][] = [];
    await client.request('commit', {}, ({ name }) => marks.push([name, process.hrtime.bigint()]));
    const ended = process.hrtime.bigint();
    reader.child.stdin.end();
    await reader.closed;
    const { slow } = v.parse(stallsSchema, JSON.parse(reader.printed()));
    const swap = (marks.find(([name]) => name === 'swap')?.[1] ?? ended) - BEFORE_NS;
    const longest = (from: bigint, to: bigint): number => {
      const within = slow.filter(([at, took]) => BigInt(at + took) >= from && BigInt(at) <= to);
      return Math.max(0, ...within.map(([, took]) => took)) / 1e9;
    };
    return {
      seconds: Number(ended - began) / 1e9,
      steps: stepTimes(marks, ended),
      writeSeconds,
      stallSeconds: longest(swap, ended),
      usualStallSeconds: longest(began - (ended - swap), began),
    };
  } finally {
    client.close();
    writer.child.stdin.end();
    await writer.closed;
  }
}

function stepTimes(marks: readonly [string, bigint][], ended: bigint): Record<string, number> {
  return Object.fromEntries(
    marks.map(([name, at], index) => [name, Number((marks[index + 1]?.[1] ?? ended) - at) / 1e9] as const),
  );
}

/** Names in the root, and one deep in the tree. */
function someNames(tree: string): string[] {
  const names = Array.from({ length: 10 }, (_, index) => join(tree, `package_${index}`));
  return [...names, join(tree, 'package_0/part_5/module_7.py')];
}
