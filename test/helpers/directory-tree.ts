/** A plain directory as the checks see a tree (src/python/distributions.ts: paths are latin1). */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, lstatSync, readdirSync, readFileSync, type Dirent } from 'node:fs';
import { resolve } from 'node:path';
import type { ChangedPath, CheckInput } from '../../src/python/checks/input.js';
import { joinPath, type TreeReader } from '../../src/python/distributions.js';

export const EMPTY_TREE: TreeReader = { list: () => null, read: () => Promise.resolve(null) };

export function directoryTree(root: string): TreeReader {
  return {
    list(path) {
      const entries = orNull(() => readdirSync(at(root, path), { withFileTypes: true, encoding: 'latin1' }));
      return entries && entries.map((entry) => ({ name: entry.name, type: typeOf(entry) }));
    },
    // A link is followed no further than the verifier does.
    read: (path) =>
      Promise.resolve(orNull(() => (lstatSync(at(root, path)).isFile() ? readFileSync(at(root, path)) : null))),
  };
}

/** As if one transaction had written all of it into nothing. */
export function installedAtOnce(root: string, markers: CheckInput['markers']): CheckInput {
  const after = directoryTree(root);
  return {
    before: EMPTY_TREE,
    after,
    changes: everythingIn(after, ''),
    hash: (path, algorithm) => hashFile(at(root, path), algorithm),
    markers,
    existsOutside: (path) => existsSync(Buffer.from(resolve(root, path), 'latin1')),
  };
}

function everythingIn(tree: TreeReader, directory: string): ChangedPath[] {
  return (tree.list(directory) ?? []).flatMap(({ name, type }) => {
    const path = joinPath(directory, name);
    return [{ path, kind: 'added' as const }, ...(type === 'directory' ? everythingIn(tree, path) : [])];
  });
}

async function hashFile(path: Buffer, algorithm: string): Promise<{ digest: Buffer; sizeBytes: number }> {
  const hash = createHash(algorithm);
  let sizeBytes = 0;
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    sizeBytes += chunk.length;
  }
  return { digest: hash.digest(), sizeBytes };
}

function at(root: string, path: string): Buffer {
  return Buffer.concat([Buffer.from(`${root}/`), Buffer.from(path, 'latin1')]);
}

function typeOf(entry: Dirent): string {
  return entry.isDirectory() ? 'directory' : entry.isSymbolicLink() ? 'symlink' : 'file';
}

function orNull<T>(read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EISDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return null;
    throw error;
  }
}
