/**
 * The server as the keeper sees it: a process that is started early, so that it loads while the store is looked at, and then
 * waits for the mount. It unmounts by asking the keeper.
 */
import type { ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';
import type { Backend } from '../fuse/backend.js';
import { errorData, SiteswapError, systemCode, type ErrorData } from '../util/errors.js';
import { SERVER_START_TIMEOUT_MS } from '../util/limits.js';
import { findHolders } from './holders.js';
import { serverMessageSchema, type KeeperToServer, type MountOptions } from './keeper-protocol.js';
import { LineChannel } from './line-channel.js';
import { SERVER_FDS } from './server-fds.js';
import { spawnNode } from './start.js';

export interface ServerDescriptors {
  log: number;
  lower: number;
  lock: number;
}

export class ServerProcess {
  /** With its exit code, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals>;
  readonly #process: ChildProcess;
  readonly #channel: LineChannel<KeeperToServer>;
  readonly #serving: Promise<void>;
  #fail!: (what: string) => void;

  constructor(
    private readonly options: MountOptions,
    private readonly backend: Backend,
    private readonly descriptors: ServerDescriptors,
  ) {
    const { log, lower } = descriptors;
    this.#process = spawnNode('daemon/server-main', [JSON.stringify(options)], {
      detached: false,
      stdio: ['ignore', log, log, lower, 'pipe', 'pipe'],
    });
    this.ended = new Promise((resolve) => this.#process.once('exit', (code, signal) => resolve(code ?? signal ?? 1)));
    this.#channel = new LineChannel(this.#socket(SERVER_FDS.keeper), () => undefined);
    // A server that ends without having taken the descriptor resets it; that is told by its exit.
    this.#socket(SERVER_FDS.handover).on('error', () => undefined);
    this.#serving = this.#untilServing();
    // It may fail long before somebody waits for it.
    this.#serving.catch(() => undefined);
  }

  /** It is mounted: the server may begin. Resolves when it serves; it is answered from then on, too. */
  async serve(device: number, filesUnchecked: boolean): Promise<void> {
    const timer = setTimeout(() => this.#fail('did not start in time'), SERVER_START_TIMEOUT_MS);
    try {
      this.#handOver(device);
      this.#channel.send({ type: 'mounted', filesUnchecked });
      await this.#serving;
    } finally {
      clearTimeout(timer);
    }
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  /** Asks it to unmount. */
  terminate(): void {
    this.#process.kill('SIGTERM');
  }

  async kill(): Promise<void> {
    // One that could not be started never ends.
    if (this.#process.pid === undefined) return;
    this.#process.kill('SIGKILL');
    await this.ended;
  }

  #untilServing(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#fail = (what) => reject(new SiteswapError('INTERNAL', `the server ${what}`, this.#hint()));
      this.#process.once('error', (error) => this.#fail(`can't be started: ${error.message}`));
      this.#process.once('exit', (code, signal) => this.#fail(`ended at its start with ${code ?? signal}`));
      this.#channel.receive(serverMessageSchema, (message) => {
        if (message.type === 'serving') resolve();
        else if (message.type === 'failed') reject(SiteswapError.fromData(message.error));
        else this.#channel.send({ type: 'unmounted', error: this.#unmount(message.lazy) });
      });
    });
  }

  #hint(): string {
    return `See ${this.options.store}/server.log.`;
  }

  /** By a socket of its own: Node reads the channel's without a look at what comes beside the bytes. */
  #handOver(device: number): void {
    const { _handle: handle } = this.#socket(SERVER_FDS.handover) as unknown as { _handle: { fd: number } | null };
    if (!handle) return;
    for (const fd of [device, this.descriptors.lock]) this.backend.sendDescriptor(handle.fd, fd);
  }

  #socket(fd: number): Socket {
    return (this.#process.stdio as unknown[])[fd] as Socket;
  }

  #unmount(lazy: boolean): ErrorData | null {
    const { directory } = this.options;
    try {
      this.backend.unmount(directory, { lazy });
      return null;
    } catch (error) {
      if (systemCode(error) !== 'EBUSY') return errorData(error);
      return busyError(directory, new Set([process.pid, this.pid])).toData();
    }
  }
}

function busyError(directory: string, ours: ReadonlySet<number>): SiteswapError {
  const holders = findHolders(directory, ours).map(({ pid, command, how }) => `${command} (${pid}, ${how})`);
  const by = holders.length > 0 ? ` by ${holders.join(', ')}` : '';
  return new SiteswapError(
    'BUSY',
    `${directory} is in use${by}`,
    'End these processes, or use --lazy: it goes away when they have ended.',
  );
}
