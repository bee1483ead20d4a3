/** Trees of the engine as python/ reads them; and verification that takes whatever was installed. */
import { hashByReading } from '../python/checks/hash-by-reading.js';
import type { TreeReader } from '../python/distributions.js';
import { verify, type ChangedPath } from '../python/verify.js';
import { systemCode } from '../util/errors.js';
import type { Verify } from './commit.js';
import type { EnginePort, PathChange, TreeView } from './engine-port.js';

type Tree = Pick<EnginePort, 'list' | 'read'>;

/** `--verify none`, and a forced commit: nothing is looked for, what it does to distributions is still recorded. */
export function verifyNothing(tree: Tree): Verify {
  return async (transaction, changes) => {
    const after = readerOf(tree, { transaction: transaction.id });
    const { packages } = await verify(
      {
        before: readerOf(tree, { generation: transaction.base }),
        after,
        hash: hashByReading(after),
        markers: null,
        changes: changedPaths(changes),
      },
      { checks: [] },
    );
    return { findings: [], packages, checks: [], interpreter: null };
  };
}

/** One character per byte: see TreeReader. */
export function changedPaths(changes: readonly PathChange[]): ChangedPath[] {
  return changes.map(({ path, kind }) => ({ path: path.toString('latin1'), kind }));
}

const ABSENT: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ENOTDIR', 'EISDIR', 'EINVAL']);

export function readerOf(tree: Tree, view: TreeView): TreeReader {
  return {
    list(path) {
      try {
        return tree
          .list(view, Buffer.from(path, 'latin1'))
          .map(({ name, type }) => ({ name: name.toString('latin1'), type }));
      } catch (error) {
        if (ABSENT.has(systemCode(error))) return null;
        throw error;
      }
    },
    async read(path) {
      try {
        return await tree.read(view, Buffer.from(path, 'latin1'));
      } catch (error) {
        if (ABSENT.has(systemCode(error))) return null;
        throw error;
      }
    },
  };
}
