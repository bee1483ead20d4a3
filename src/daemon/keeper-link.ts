/** The server's end of its line to the keeper. */
import { Socket } from 'node:net';
import type { Backend } from '../fuse/backend.js';
import { SiteswapError, systemCode } from '../util/errors.js';
import { KEEPER_ANSWER_MS } from '../util/limits.js';
import { keeperMessageSchema, type ServerToKeeper } from './keeper-protocol.js';
import { LineChannel } from './line-channel.js';
import { isMountedOver } from './mountinfo.js';

export class KeeperLink {
  #lost = false;
  readonly #channel: LineChannel<ServerToKeeper>;
  #answer: ((error: Error | null) => void) | null = null;
  /** What the keeper says once: it is mounted. */
  readonly mounted: Promise<{ filesUnchecked: boolean }>;

  constructor(
    fd: number,
    private readonly backend: () => Backend,
    private readonly directory: string,
  ) {
    const socket = new Socket({ fd, readable: true, writable: true });
    let isMounted!: (how: { filesUnchecked: boolean }) => void;
    let isOver!: (error: Error) => void;
    this.mounted = new Promise((resolve, reject) => ([isMounted, isOver] = [resolve, reject]));
    this.mounted.catch(() => undefined);
    this.#channel = new LineChannel(socket, () => {
      this.#lost = true;
      isOver(new SiteswapError('INTERNAL', 'the keeper ended before it mounted', 'Mount again.'));
      this.#settle(new SiteswapError('INTERNAL', 'the keeper ended', 'Unmount again.'));
    });
    this.#channel.receive(keeperMessageSchema, (message) => {
      if (message.type === 'mounted') isMounted(message);
      else this.#settle(message.error && SiteswapError.fromData(message.error));
    });
  }

  /** The keeper is gone: the server goes on, but nobody holds the mount should it die too. */
  get lost(): boolean {
    return this.#lost;
  }

  send(message: ServerToKeeper): void {
    this.#channel.send(message);
  }

  async unmount(lazy: boolean): Promise<void> {
    if (this.#lost) {
      this.#unmountAlone(lazy);
      return;
    }
    if (this.#answer) throw new SiteswapError('BUSY', 'an unmount is being tried already', 'Try again.');
    const isAnswered = await new Promise<boolean>((resolve, reject) => {
      const timer = setInterval(() => {
        // Out of the mount table, it may take long until the kernel has given everything back.
        if (!isMountedOver(this.directory)) return;
        clearInterval(timer);
        this.#answer = null;
        resolve(false);
      }, KEEPER_ANSWER_MS);
      this.#answer = (error) => {
        clearInterval(timer);
        if (error) reject(error);
        else resolve(true);
      };
      this.send({ type: 'unmount', lazy });
    });
    // It is stopped, or stuck.
    if (!isAnswered) this.#unmountAlone(lazy);
  }

  /** Without a keeper nobody can look who holds the mount: the server must not wait for what waits for it. */
  #unmountAlone(lazy: boolean): void {
    try {
      this.backend().unmount(this.directory, { lazy });
    } catch (error) {
      if (systemCode(error) !== 'EBUSY') throw error;
      throw new SiteswapError('BUSY', `${this.directory} is in use`, 'End who uses it, or use --lazy.', {
        cause: error,
      });
    }
  }

  #settle(error: Error | null): void {
    const answer = this.#answer;
    this.#answer = null;
    answer?.(error);
  }

  close(): void {
    this.#channel.close();
  }
}
