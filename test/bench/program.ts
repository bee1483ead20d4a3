/** Starts the programs that are measured, and those that prepare. All of the bench's child processes come from here. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import * as v from 'valibot';

export const WORK = fileURLToPath(new URL('./work.py', import.meta.url));
const TIMEOUT_MS = 900_000;

export interface Ran {
  stdout: string;
  /** From start to exit, of the whole process. */
  wallSeconds: number;
}

/** Rejects when it can't be started or does not end with 0; says then what it printed. */
export function run(command: readonly string[], options: { env?: NodeJS.ProcessEnv; cwd?: string } = {}): Promise<Ran> {
  const [program, ...words] = command;
  return new Promise((resolve, reject) => {
    const began = performance.now();
    const child = spawn(program!, words, {
      cwd: options.cwd ?? '/',
      env: options.env ?? process.env,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: TIMEOUT_MS,
      killSignal: 'SIGKILL',
    });
    const printed = { stdout: '', stderr: '' };
    for (const stream of ['stdout', 'stderr'] as const) {
      child[stream].setEncoding('utf8').on('data', (text: string) => (printed[stream] += text));
    }
    let wallSeconds = 0;
    child.once('exit', () => (wallSeconds = (performance.now() - began) / 1000));
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0) return resolve({ stdout: printed.stdout, wallSeconds });
      const how = signal === null ? `exit code ${code}` : `signal ${signal}`;
      reject(new Error(`${command.join(' ')}: ${how}\n${printed.stderr.slice(-2000)}${printed.stdout.slice(-500)}`));
    });
  });
}

const answerSchema = v.object({
  seconds: v.number(),
  /** Of the work, user and system together. */
  cpu: v.number(),
  count: v.optional(v.number()),
  bytes: v.optional(v.number()),
});
export type Answer = v.InferOutput<typeof answerSchema>;

/** The last line that work.py printed. */
export function parseAnswer(stdout: string): Answer {
  return v.parse(answerSchema, JSON.parse(stdout.trim().split('\n').at(-1) ?? ''));
}
