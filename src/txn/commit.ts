/**
 * A commit: a list of named steps. The names are what progress shows, the log, and the points at which tests kill us.
 *
 * Invariants: HEAD moves only after everything it names is durable; a crash before `move-head` leaves what recovery
 * deletes (or, for a kept transaction, moves back); an error before `move-head` is undone here and the transaction
 * stays frozen; after `move-head` there is no way back, only forward.
 * Called by transactions.ts, one at a time (the number of the next generation is read at the start).
 */
import { crashPoint } from '../store/crash-point.js';
import type { Generation, PackageChange } from '../store/generation.js';
import type { Store } from '../store/store.js';
import { asStoreError, describe } from '../util/errors.js';
import type { BuildOutcome, EnginePort, PathChange } from './engine-port.js';
import { buildOnHead, type Conflict } from './rebase.js';
import type { Transaction } from './transaction.js';

export const COMMIT_STEPS = [
  'freeze',
  'verify',
  'build',
  'sync-layer',
  'write-generation',
  'move-head',
  'swap',
  'release',
] as const;
export type CommitStep = (typeof COMMIT_STEPS)[number];

export interface Finding {
  severity: 'error' | 'warning';
  message: string;
}

export interface Verdict {
  findings: Finding[];
  /** What the commit does to distributions, for the generation's record. */
  packages: PackageChange[];
}

export type Verify = (transaction: Transaction, changes: PathChange[]) => Promise<Verdict>;

export interface CommitContext {
  store: Store;
  engine: EnginePort;
  verify: Verify;
  /** Makes everything written to the store's filesystem durable. */
  sync: () => Promise<void>;
  nowMs: () => number;
  onStep: (step: CommitStep) => void;
}

export type CommitOutcome =
  | { kind: 'committed'; generation: number; packages: PackageChange[]; warnings: string[] }
  /** Nothing was changed: there is nothing to commit. */
  | { kind: 'unchanged' }
  | { kind: 'refused'; findings: Finding[] }
  | Conflict;

export async function commit(transaction: Transaction, force: boolean, context: CommitContext): Promise<CommitOutcome> {
  const { store, engine } = context;
  const id = transaction.id;
  const step = (name: CommitStep): void => {
    context.onStep(name);
    crashPoint(name);
  };

  step('freeze');
  await engine.freezeTransaction(id);
  const changes = await engine.changes(id);
  if (changes.length === 0) return { kind: 'unchanged' };

  step('verify');
  const verdict = await context.verify(transaction, changes);
  if (!force && verdict.findings.some((finding) => finding.severity === 'error')) {
    return { kind: 'refused', findings: verdict.findings };
  }

  const generation = store.head + 1;
  let packages = verdict.packages;
  try {
    step('build');
    const manifestPath = store.layout.temporaryManifest(generation);
    const request = { transaction: id, generation, layer: id, manifestPath };
    const rebased = await buildOnHead({ transaction, changes, packages, force, store, engine, request });
    if (rebased.kind === 'conflict') return rebased;
    packages = rebased.packages;

    step('sync-layer');
    await store.bodiesToLayer(id, context.sync);

    step('write-generation');
    await store.writeGeneration(record(transaction, generation, rebased.built, packages, context.nowMs()));

    step('move-head');
    await store.moveHead(generation);
  } catch (error) {
    await undo(store, id, generation);
    throw asStoreError(error, `generation ${generation} can't be written`);
  }

  step('swap');
  engine.publish({ generation, transaction: id });

  step('release');
  await store.removeTransaction(id);
  crashPoint('released');
  return {
    kind: 'committed',
    generation,
    packages,
    warnings: verdict.findings.map((finding) => finding.message),
  };
}

function record(
  transaction: Transaction,
  generation: number,
  built: BuildOutcome,
  packages: PackageChange[],
  createdMs: number,
): Generation {
  return {
    generation,
    parent: generation - 1,
    createdMs,
    reason: 'commit',
    transaction: transaction.id,
    command: [...transaction.command],
    uid: transaction.uid,
    layer: transaction.id,
    maxMtimeNs: String(built.maxMtimeNs),
    entries: built.entries,
    packages,
  };
}

/** What can't be undone now is left to recovery, which finds the same state. */
async function undo(store: Store, id: number, generation: number): Promise<void> {
  try {
    await store.dropGeneration(generation);
    await store.layerToBodies(id);
  } catch (error) {
    throw new Error(`a commit that failed can't be undone, restart the mount: ${describe(error)}`, { cause: error });
  }
}
