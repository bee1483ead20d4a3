/**
 * Puts the checks of python/verify behind a commit: the tree before is the transaction's base, the tree after is its own.
 * `--verify none` takes whatever was installed; what it does to distributions is still recorded.
 */
import { hashByReading } from '../python/checks/hash-by-reading.js';
import type { TreeReader } from '../python/distributions.js';
import { verify } from '../python/verify.js';
import { systemCode } from '../util/errors.js';
import type { Verify } from './commit.js';
import type { EnginePort, TreeView } from './engine-port.js';

type Tree = Pick<EnginePort, 'list' | 'read'>;

export function createVerify(tree: Tree, level: string): Verify {
  return async (transaction, changes) => {
    const after = readerOf(tree, { transaction: transaction.id });
    const { findings, packages } = await verify({
      before: readerOf(tree, { generation: transaction.base }),
      after,
      hash: hashByReading(after),
      markers: null,
      // One character per byte: see TreeReader.
      changes: changes.map(({ path, kind }) => ({ path: path.toString('latin1'), kind })),
    });
    return { findings: level === 'none' ? [] : findings, packages };
  };
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
