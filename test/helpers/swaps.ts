/** Commits that follow each other as quickly as the server makes them: one Python process, one explicit transaction each. */
import assert from 'node:assert/strict';
import { createInterface } from 'node:readline';
import type { ControlClient } from '../../src/daemon/control-client.js';
import { writeScript, type MountedVenv } from './mounted-venv.js';

/** A line in: one expression, evaluated with `site`. */
const WRITER = `
import os, shutil, sys
site = sys.argv[1]
def write(path, text):
    with open(f'{site}/{path}', 'w') as file: file.write(text)
for line in sys.stdin:
    exec(line)
    print('done', flush=True)
`;

export class Swaps {
  readonly #child;
  readonly #lines;

  constructor(
    mounted: MountedVenv,
    private readonly daemon: ControlClient,
  ) {
    this.#child = mounted.start(mounted.python, ['-S', writeScript(mounted, 'swaps.py', WRITER), mounted.site]);
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  /** Runs one line of Python in a transaction; the generation that it became. */
  async commit(line: string): Promise<number> {
    const transaction = await this.begin();
    await this.run(line);
    return (await this.daemon.request('commit', { transaction })).generation;
  }

  async begin(): Promise<number> {
    return (await this.daemon.request('begin', { pid: this.#child.pid!, explicit: true })).transaction;
  }

  async run(line: string): Promise<void> {
    this.#child.stdin!.write(`${line}\n`);
    assert.equal((await this.#lines.next()).value, 'done', line);
  }

  async abort(transaction: number): Promise<void> {
    await this.daemon.request('abort', { transaction });
  }

  end(): void {
    this.#child.stdin!.end();
  }
}
