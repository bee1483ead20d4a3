/**
 * Hashes files of the staged tree: small ones at once, large ones on threads of their own, which are started when the first
 * comes. Each byte is read once.
 */
import { closeSync, fstatSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { FileDigest } from '../python/checks/check.js';
import { digestOpen } from './digest.js';
import { scriptAt } from '../util/package-root.js';
import { openFile } from './trees.js';

/** A thread takes longer to start than this takes to hash. */
const SMALL_BYTES = 4 << 20;
const MOST_THREADS = 8;

export interface HashQuestion {
  id: number;
  path: string;
  algorithm: string;
}

export type HashAnswer = { id: number; result: FileDigest | null } | { id: number; error: string };

interface Waiting {
  resolve: (result: FileDigest | null) => void;
  reject: (error: Error) => void;
}

export class Hasher {
  readonly #workers: Worker[] = [];
  readonly #waiting = new Map<number, Waiting>();
  #next = 0;

  constructor(private readonly root: string) {}

  hash(path: string, algorithm: string): Promise<FileDigest | null> {
    const fd = openFile(this.root, path);
    if (fd === null) return Promise.resolve(null);
    try {
      if (fstatSync(fd).size < SMALL_BYTES) return Promise.resolve(digestOpen(fd, algorithm));
    } finally {
      closeSync(fd);
    }
    const id = this.#next++;
    const result = new Promise<FileDigest | null>((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    this.#worker(id).postMessage({ id, path, algorithm } satisfies HashQuestion);
    return result;
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  #worker(id: number): Worker {
    const count = Math.min(availableParallelism(), MOST_THREADS);
    if (this.#workers.length < count) this.#start();
    return this.#workers[id % this.#workers.length]!;
  }

  #start(): void {
    const worker = new Worker(scriptAt('./hash-worker', import.meta.url), { workerData: { root: this.root } });
    worker.on('message', (answer: HashAnswer) => {
      const waiting = this.#waiting.get(answer.id);
      this.#waiting.delete(answer.id);
      if ('error' in answer) waiting?.reject(new Error(answer.error));
      else waiting?.resolve(answer.result && { ...answer.result, digest: Buffer.from(answer.result.digest) });
    });
    worker.on('error', (error) => {
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
    });
    this.#workers.push(worker);
  }
}
