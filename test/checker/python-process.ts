/** A Python program of the checker: lines of JSON out, its standard input is what it lives by. */
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { cleanEnvironment } from '../helpers/venv.js';

const STOP_TIMEOUT_MS = 30_000;

export function scriptPath(name: string): string {
  return fileURLToPath(new URL(name, import.meta.url));
}

export class PythonProcess {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly ended: Promise<void>;
  #stderr = '';
  /** How it ended, when not well. */
  failure: string | null = null;
  stopping = false;

  constructor(
    readonly name: string,
    python: string,
    args: readonly string[],
    onLine: (value: unknown) => void,
  ) {
    // -S: its packages come from the directory under test alone.
    this.#child = spawn(python, ['-E', '-s', '-S', ...args], { cwd: '/', env: cleanEnvironment() });
    createInterface(this.#child.stdout).on('line', (line) => onLine(JSON.parse(line)));
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => (this.#stderr += text.slice(0, 10_000)));
    this.#child.stdin.on('error', () => undefined);
    this.ended = new Promise((resolve) => {
      this.#child.once('error', (error) => (this.failure = error.message));
      this.#child.once('close', (code, signal) => {
        if (code !== 0) {
          const last = this.#stderr.trim().split('\n').at(-1) ?? '';
          this.failure = `${name} ended with ${signal ?? code}: ${last}`;
        }
        resolve();
      });
    });
  }

  send(value: unknown): void {
    this.#child.stdin.write(`${JSON.stringify(value)}\n`);
  }

  /** Lets it finish what it does; SIGKILL when that takes too long. */
  async stop(): Promise<void> {
    this.stopping = true;
    this.#child.stdin.end();
    const timer = setTimeout(() => this.kill(), STOP_TIMEOUT_MS);
    await this.ended;
    clearTimeout(timer);
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}
