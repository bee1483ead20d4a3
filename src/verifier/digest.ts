/** Digest and size of an open file, read in pieces, so that a large one takes no memory. Called by hash.ts, on any thread. */
import { createHash } from 'node:crypto';
import { closeSync, readSync } from 'node:fs';
import type { FileDigest } from '../python/checks/check.js';
import { openFile } from './trees.js';

/** One a thread: nothing else runs on it while a file is read. */
const piece = Buffer.allocUnsafe(1 << 20);

/** Null when there is no such regular file. */
export function digestFile(root: string, path: string, algorithm: string): FileDigest | null {
  const fd = openFile(root, path);
  if (fd === null) return null;
  try {
    return digestOpen(fd, algorithm);
  } finally {
    closeSync(fd);
  }
}

export function digestOpen(fd: number, algorithm: string): FileDigest {
  const hash = createHash(algorithm);
  let sizeBytes = 0;
  for (let count = readSync(fd, piece); count > 0; count = readSync(fd, piece)) {
    hash.update(piece.subarray(0, count));
    sizeBytes += count;
  }
  return { digest: hash.digest(), sizeBytes };
}
