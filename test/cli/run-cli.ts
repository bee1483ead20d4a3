/** Runs the command line as its own process, without colour. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { SITESWAP } from '../helpers/built.js';

const TIMEOUT_MS = 120_000;

export interface Result {
  code: number | null;
  stdout: string;
  stderr: string;
}

export async function siteswap(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Result> {
  const [node, ...words] = [...SITESWAP, ...args];
  const child = spawn(node, words, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, DEBUG: '', NO_COLOR: '1', FORCE_COLOR: undefined, ...env },
    timeout: TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
  const closed = once(child, 'close') as Promise<[number | null]>;
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), closed]);
  return { code, stdout, stderr };
}
