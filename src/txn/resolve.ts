/**
 * What paths alone don't decide, when HEAD and a transaction changed the same place: which conflicts are none.
 *
 * `.pth` files are united. The same bytes on both sides are no conflict (an `__init__.py` that two distributions bring).
 * Bytecode goes with its source: it says nothing of its own, and whoever imports compiles it. Directories are merged name
 * by name (a namespace package that one installer moves away and makes anew, or removes).
 * Called by commit.ts after a build that found conflicts, until none is left or one is real.
 */
import { sourceOfBytecode } from '../policy/bytecode.js';
import { systemCode } from '../util/errors.js';
import type { EnginePort, PathChange, Resolution, TreeAttributes, TreeView } from './engine-port.js';
import { isUnitable, uniteLines } from './unite.js';

export interface ConflictInput {
  engine: Pick<EnginePort, 'stat' | 'read'>;
  views: { base: TreeView; head: TreeView; ours: TreeView };
  conflicts: readonly { path: Buffer }[];
  changes: readonly PathChange[];
  /** In earlier rounds: a merged directory has its conflicts in the next one. */
  decided: readonly Resolution[];
  /** The transaction wins where both are right. */
  force: boolean;
}

export interface Resolved {
  resolutions: Resolution[];
  /** Real ones. */
  conflicts: Buffer[];
}

export async function resolveConflicts(input: ConflictInput): Promise<Resolved> {
  const resolutions: Resolution[] = [];
  const conflicts: Buffer[] = [];
  const changedByUs = new Set(input.changes.map(({ path }) => path.toString('latin1')));
  const bytecode: { path: Buffer; source: string }[] = [];
  for (const { path } of input.conflicts) {
    const source = sourceOfBytecode(path.toString('latin1'));
    if (source !== null) {
      bytecode.push({ path, source });
      continue;
    }
    const take = await decide(input, path);
    if (take === null) conflicts.push(path);
    else resolutions.push({ path, take });
  }
  const taken = new Map([...input.decided, ...resolutions].map(({ path, take }) => [path.toString('latin1'), take]));
  for (const { path, source } of bytecode) {
    const take = taken.get(source) ?? (changedByUs.has(source) ? 'transaction' : 'head');
    resolutions.push({ path, take: take === 'transaction' ? 'transaction' : 'head' });
  }
  return { resolutions, conflicts };
}

async function decide({ engine, views, force }: ConflictInput, path: Buffer): Promise<Resolution['take'] | null> {
  const [base, head, ours] = [views.base, views.head, views.ours].map((view) => look(engine, view, path)) as [
    Look,
    Look,
    Look,
  ];
  // Made by one side in a directory that the other replaced or removed. Of a cache, it depends on each file's source.
  if (!base && isDirectory(head ?? ours) && /(?:^|\/)__pycache__$/.test(path.toString('latin1'))) return 'merge';
  if (!base && !ours) return 'head';
  if (!base && !head) return 'transaction';
  if (isDirectory(head ?? ours) && isDirectory(ours ?? head) && (base === null || isDirectory(base))) return 'merge';
  const bytes = (view: TreeView, found: Look): Promise<Buffer> =>
    found === null ? Promise.resolve(Buffer.alloc(0)) : engine.read(view, path);
  const areFiles = [base, head, ours].every((found) => found === null || found.type === 'file');
  if (isUnitable(path.toString('latin1')) && areFiles) {
    const united = uniteLines(
      await bytes(views.base, base),
      await bytes(views.head, head),
      await bytes(views.ours, ours),
    );
    return united.length === 0 && (head === null || ours === null) ? 'nothing' : united;
  }
  if (head && ours && isAlike(head, ours)) {
    if (head.type === 'symlink') return 'head';
    if (head.type === 'file' && (await engine.read(views.head, path)).equals(await engine.read(views.ours, path))) {
      return 'head';
    }
  }
  return force ? 'transaction' : null;
}

type Look = TreeAttributes | null;

const ABSENT: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ENOTDIR']);

function look(engine: ConflictInput['engine'], view: TreeView, path: Buffer): Look {
  try {
    return engine.stat(view, path);
  } catch (error) {
    if (ABSENT.has(systemCode(error))) return null;
    throw error;
  }
}

function isDirectory(found: Look): boolean {
  return found?.type === 'directory';
}

/** But for the bytes of files, and times. */
function isAlike(a: TreeAttributes, b: TreeAttributes): boolean {
  if (a.type !== b.type || a.mode !== b.mode || a.uid !== b.uid || a.gid !== b.gid) return false;
  return a.type !== 'symlink' || (a.target?.equals(b.target ?? Buffer.alloc(0)) ?? false);
}
