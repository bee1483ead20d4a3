/**
 * A directory mounted by the addon's engine for a test, without the daemon. The engine runs in a process of its own
 * (`engine-host.ts`): the process of a test must never touch a mount that it serves, nor wait for itself.
 *
 * `close` always ends it: unmount, else lazily, else by killing the host, which ends the kernel's connection (the host
 * holds its only descriptor) and with it every request that hangs.
 */

import assert from 'node:assert/strict';
import { type ChildProcess, fork, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';

import { listMounts } from '../../src/daemon/mountinfo.js';
import type { Counters, Feature, Pin } from '../../src/native/binding.js';
import { testProgram } from './built.js';

export interface HostOptions {
  directory: string;
  /** Exists, empty, beside the directory. */
  store: string;
  disable: readonly Feature[];
}

export interface Outcome {
  transaction: number;
  exitCode: number | null;
  /** Null: aborted. */
  generation: number | null;
  /** `<kind> <path>`. */
  changes: string[];
  conflicts: string[];
  error?: string;
}

export type ToHost = { id: number };
export type FromHost =
  | { type: 'serving'; lowerFd: number; features: Feature[] }
  | { type: 'began'; transaction: number; pid: number }
  | { type: 'ended'; outcome: Outcome }
  | { type: 'log'; text: string }
  | { type: 'stopped'; reason: string }
  | { type: 'reply'; id: number; counters: Counters; pins: Pin[] };

const STEP_TIMEOUT_MS = 100_000;

export class EngineMount {
  readonly log: string[] = [];
  readonly outcomes: Outcome[] = [];
  features: Feature[] = [];
  /** The lower directory, as it can be reached while the mount covers it. */
  lowerPath = '';
  private began = 0;
  private nextId = 1;
  private readonly listeners = new Set<(message: FromHost) => void>();

  private constructor(
    readonly directory: string,
    private readonly host: ChildProcess,
  ) {
    host.on('message', (message: FromHost) => {
      if (message.type === 'log') this.log.push(message.text);
      if (message.type === 'began') ++this.began;
      if (message.type === 'ended') this.outcomes.push(message.outcome);
      for (const listener of this.listeners) listener(message);
    });
  }

  static async open(options: Omit<HostOptions, 'disable'> & { disable?: readonly Feature[] }): Promise<EngineMount> {
    const text = JSON.stringify({ disable: [], ...options } satisfies HostOptions);
    const host = fork(testProgram('engine-host'), [text], { execArgv: [], cwd: '/' });
    const mount = new EngineMount(options.directory, host);
    try {
      const serving = await mount.wait((message) => message.type === 'serving', 'serving');
      assert.ok(serving.type === 'serving');
      mount.features = serving.features;
      mount.lowerPath = `/proc/${mount.host.pid}/fd/${serving.lowerFd}/.`;
      return mount;
    } catch (error) {
      await mount.close();
      throw error;
    }
  }

  private wait(wanted: (message: FromHost) => boolean, what: string): Promise<FromHost> {
    return new Promise((resolve, reject) => {
      const finish = (settle: () => void) => {
        clearTimeout(timer);
        this.listeners.delete(listener);
        this.host.off('exit', onExit);
        settle();
      };
      const listener = (message: FromHost) => {
        if (wanted(message)) finish(() => resolve(message));
      };
      const fail = (why: string) => finish(() => reject(new Error(`${what}: ${why}; ${this.log.join('; ')}`)));
      const onExit = (code: number | null, signal: string | null) => fail(`the host ended: ${code ?? signal}`);
      const timer = setTimeout(() => fail('timed out'), STEP_TIMEOUT_MS);
      this.listeners.add(listener);
      this.host.on('exit', onExit);
      if (this.host.exitCode !== null || this.host.signalCode !== null)
        onExit(this.host.exitCode, this.host.signalCode);
    });
  }

  /** Once every transaction has been decided: the latest one's outcome. */
  async settled(): Promise<Outcome> {
    while (this.began === 0 || this.outcomes.length < this.began) {
      await this.wait((message) => message.type === 'ended', 'a decision');
    }
    return this.outcomes.at(-1)!;
  }

  async state(): Promise<{ counters: Counters; pins: Pin[] }> {
    const id = this.nextId++;
    const reply = this.wait((message) => message.type === 'reply' && message.id === id, 'a reply');
    this.host.send({ id } satisfies ToHost);
    const state = await reply;
    assert.ok(state.type === 'reply');
    return state;
  }

  /** Problems there were on the way; a test that cares asserts that there were none. */
  async close(): Promise<string[]> {
    const problems: string[] = [];
    const ended = this.host.exitCode === null && this.host.signalCode === null ? once(this.host, 'exit') : null;
    if (listMounts().some(({ mountpoint }) => mountpoint === this.directory)) {
      const plain = await unmount(this.directory, []);
      if (plain !== null) {
        problems.push(`umount: ${plain}`);
        const lazy = await unmount(this.directory, ['-l']);
        if (lazy !== null) problems.push(`umount -l: ${lazy}`);
      }
    }
    if (ended) {
      const timer = setTimeout(() => {
        problems.push('the host did not end by itself');
        this.host.kill('SIGKILL');
      }, STEP_TIMEOUT_MS);
      await ended;
      clearTimeout(timer);
    }
    if (this.host.exitCode !== 0) problems.push(`the host ended with ${this.host.exitCode ?? this.host.signalCode}`);
    if (listMounts().some(({ mountpoint }) => mountpoint === this.directory)) {
      spawnSync('umount', ['-l', this.directory], { timeout: STEP_TIMEOUT_MS });
    }
    return problems;
  }
}

/** Null, or what umount said. */
async function unmount(directory: string, options: string[]): Promise<string | null> {
  const child = spawn('umount', [...options, directory], {
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: STEP_TIMEOUT_MS,
  });
  let text = '';
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  return code === 0 ? null : text.trim() || `ended with ${code ?? signal}`;
}
