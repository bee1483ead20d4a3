/** Digests for `CheckInput.hash` where nothing better than reading the whole file is at hand. */
import { createHash } from 'node:crypto';
import type { TreeReader } from '../distributions.js';
import type { CheckInput } from './input.js';

export function hashByReading(tree: TreeReader): CheckInput['hash'] {
  return async (path, algorithm) => {
    const content = await tree.read(path);
    if (content === null) return null;
    return { digest: createHash(algorithm).update(content).digest(), sizeBytes: content.length };
  };
}
