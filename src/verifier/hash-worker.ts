/** A thread that hashes files for hash.ts. A thread of the verifier's process: it sees the staged tree too. */
import { parentPort, workerData } from 'node:worker_threads';
import { describe } from '../util/errors.js';
import { digestFile } from './digest.js';
import type { HashAnswer, HashQuestion } from './hash.js';

const { root } = workerData as { root: string };
parentPort!.on('message', ({ id, path, algorithm }: HashQuestion) => {
  let answer: HashAnswer;
  try {
    answer = { id, result: digestFile(root, path, algorithm) };
  } catch (error) {
    answer = { id, error: describe(error) };
  }
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port between threads has no origin
  parentPort!.postMessage(answer);
});
