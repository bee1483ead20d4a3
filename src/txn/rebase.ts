/**
 * The build of a commit when HEAD has moved since the transaction's base: what clashes, what is united, what a forced
 * commit takes away from HEAD. Without such a move it is one plain build.
 * Called by commit.ts, in its step `build`.
 */
import { parentOf } from '../python/distributions.js';
import { leftoversOf } from '../python/owned.js';
import { touchedMetadata } from '../python/verify.js';
import type { Generation, PackageChange } from '../store/generation.js';
import type { Store } from '../store/store.js';
import { clashesOf, packagesFrom, type Clash } from './clash.js';
import type { BuildOutcome, BuildRequest, EnginePort, PathChange, Resolution, TreeView } from './engine-port.js';
import { resolveConflicts } from './resolve.js';
import type { Transaction } from './transaction.js';
import { changedPaths, readerOf } from './verification.js';

/** Merged directories have their conflicts in the next round; more levels of them than this no tree has. */
const MOST_ROUNDS = 64;

export interface RebaseInput {
  transaction: Transaction;
  changes: PathChange[];
  packages: PackageChange[];
  force: boolean;
  store: Store;
  engine: EnginePort;
  request: BuildRequest;
}

export interface Conflict {
  kind: 'conflict';
  /** Of files. */
  paths: string[];
  /** Of distributions. */
  names: string[];
  /** Who came first, newest first. */
  winners: Generation[];
}

export type Rebased = { kind: 'built'; built: BuildOutcome; packages: PackageChange[] } | Conflict;

export async function buildOnHead(input: RebaseInput): Promise<Rebased> {
  const { transaction, packages, force, store } = input;
  const newer = store.head === transaction.base ? [] : await store.history(store.head - transaction.base);
  const since = newer.filter(({ generation }) => generation > transaction.base);
  const clashes = clashesOf(packages, since);
  if (clashes.length > 0 && !force) {
    const winners = since.filter((generation) => clashes.some(({ winner }) => winner === generation));
    return { kind: 'conflict', paths: [], names: clashes.map(({ name }) => name), winners };
  }
  const resolutions = await takenAway(input, clashes);
  for (let round = 0; round < MOST_ROUNDS; round++) {
    const built = await input.engine.buildManifest({ ...input.request, resolutions });
    if (built.conflicts.length === 0) return { kind: 'built', built, packages: packagesFrom(packages, clashes) };
    const resolved = await resolveConflicts({
      engine: input.engine,
      views: viewsOf(input),
      conflicts: built.conflicts,
      changes: input.changes,
      decided: resolutions,
      force,
    });
    if (resolved.conflicts.length > 0) {
      const winners = since.filter((generation) => changedAny(input.engine, generation, resolved.conflicts));
      const paths = resolved.conflicts.map((path) => path.toString('utf8'));
      return { kind: 'conflict', paths, names: [], winners: winners.length > 0 ? winners : since };
    }
    resolutions.push(...resolved.resolutions);
  }
  throw new Error(`invariant broken: transaction ${transaction.id} still has conflicts after ${MOST_ROUNDS} rounds`);
}

function viewsOf({ transaction, store }: RebaseInput): { base: TreeView; head: TreeView; ours: TreeView } {
  return {
    base: { generation: transaction.base },
    head: { generation: store.head },
    ours: { transaction: transaction.id },
  };
}

/** HEAD's version of a distribution that the transaction replaces goes whole: one metadata directory stays. */
async function takenAway(input: RebaseInput, clashes: readonly Clash[]): Promise<Resolution[]> {
  if (clashes.length === 0) return [];
  const { head, ours } = viewsOf(input);
  const metadata = touchedMetadata(changedPaths(input.changes));
  const directories = new Set(metadata.map(parentOf));
  const paths = await leftoversOf(
    new Set(clashes.map(({ name }) => name)),
    [...directories],
    readerOf(input.engine, head),
    readerOf(input.engine, ours),
  );
  return paths.map((path) => ({ path: Buffer.from(path, 'latin1'), take: 'nothing' }));
}

function changedAny(engine: EnginePort, { generation, parent }: Generation, paths: readonly Buffer[]): boolean {
  if (parent === null) return false;
  const ino = (of: number, path: Buffer): bigint | null => {
    try {
      return engine.stat({ generation: of }, path).ino;
    } catch {
      return null;
    }
  };
  return paths.some((path) => ino(generation, path) !== ino(parent, path));
}
