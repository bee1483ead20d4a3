/**
 * A commit: a list of named steps, in two halves. `examine` looks at the transaction's own tree, and any number of them
 * at once may; `publish` changes the store, one at a time (the number of the next generation is read at the start). The
 * names are what progress shows, the log, and the points at which tests kill us.
 *
 * Invariants: HEAD moves only after everything it names is durable; a crash before `move-head` leaves what recovery
 * deletes (or, for a kept transaction, moves back); an error before `move-head` is undone here and the transaction
 * stays frozen; after `move-head` there is no way back, only forward.
 * Called by transactions.ts.
 */
import { crashPoint } from '../store/crash-point.js';
import type { Generation, PackageChange } from '../store/generation.js';
import type { Store } from '../store/store.js';
import type { Finding } from '../python/verify.js';
import { asStoreError, describe } from '../util/errors.js';
import type { BuildOutcome, EnginePort, PathChange } from './engine-port.js';
import { buildOnHead, type Conflict } from './rebase.js';
import { findingsOfMerge } from './merged.js';
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

export interface Verdict {
  findings: Finding[];
  /** What the commit does to distributions, for the generation's record. */
  packages: PackageChange[];
  /** What was looked at and how long it took, in that order. */
  checks: { name: string; durationMs: number }[];
  /**
   * What the environment's interpreter says of itself: its PEP 508 variables, and distributions that it finds outside of the
   * tree. Null when it was not asked.
   */
  interpreter: {
    markers: Readonly<Record<string, string>>;
    elsewhere: readonly { name: string; version: string }[];
  } | null;
}

export interface VerifyOptions {
  /** Nothing will be refused: it is enough to know what changed. */
  force: boolean;
  /** Test commands beside the mount's own. */
  commands: readonly string[];
  /** A check begins. */
  onCheck: (name: string) => void;
  /** Aborted: it is to end soon, by an error. */
  signal: AbortSignal;
}

export type Verify = (transaction: Transaction, changes: PathChange[], options: VerifyOptions) => Promise<Verdict>;

export interface CommitContext {
  store: Store;
  engine: EnginePort;
  /** Makes everything written to the store's filesystem durable. */
  sync: () => Promise<void>;
  nowMs: () => number;
  /** `detail`: the check that begins, in the step `verify`. */
  onStep: (step: CommitStep, detail?: string) => void;
}

export type CommitOutcome =
  | { kind: 'committed'; generation: number; packages: PackageChange[]; warnings: string[] }
  /** Nothing was changed: there is nothing to commit. */
  | { kind: 'unchanged' }
  | { kind: 'refused'; findings: Finding[] }
  | Conflict;

export interface Examined {
  kind: 'examined';
  changes: PathChange[];
  verdict: Verdict;
}

export async function examine(
  transaction: Transaction,
  context: Pick<CommitContext, 'engine' | 'onStep'> & { verify: Verify } & Omit<VerifyOptions, 'onCheck'>,
): Promise<Examined | Extract<CommitOutcome, { kind: 'unchanged' | 'refused' }>> {
  const { engine, verify, force, commands, signal } = context;
  reach('freeze', context);
  await engine.freezeTransaction(transaction.id);
  const changes = await engine.changes(transaction.id);
  if (changes.length === 0) return { kind: 'unchanged' };

  reach('verify', context);
  const onCheck = (name: string): void => context.onStep('verify', name);
  const verdict = await verify(transaction, changes, { force, commands, onCheck, signal });
  if (force) return { kind: 'examined', changes, verdict: { ...verdict, findings: takenByForce(transaction) } };
  return isRefused(verdict.findings)
    ? { kind: 'refused', findings: verdict.findings }
    : { kind: 'examined', changes, verdict };
}

/** The history tells what somebody took all the same. */
function takenByForce({ reason }: Transaction): Finding[] {
  if (reason === null) return [];
  return [{ severity: 'warning', check: 'force', path: '', message: `taken by force, although: ${reason}` }];
}

export function isRefused(findings: readonly Finding[]): boolean {
  return findings.some((finding) => finding.severity === 'error');
}

export async function publish(
  transaction: Transaction,
  { changes, verdict }: Examined,
  force: boolean,
  context: CommitContext,
): Promise<CommitOutcome> {
  const { store, engine } = context;
  const id = transaction.id;
  const step = (name: CommitStep): void => reach(name, context);

  const generation = store.head + 1;
  let packages = verdict.packages;
  const findings = [...verdict.findings];
  try {
    step('build');
    await store.refuseReplaced();
    const manifestPath = store.layout.temporaryManifest(generation);
    const request = { transaction: id, generation, layer: id, manifestPath };
    const rebased = await buildOnHead({ transaction, changes, packages, force, store, engine, request });
    if (rebased.kind === 'conflict') return rebased;
    packages = rebased.packages;
    if (store.head !== transaction.base) {
      findings.push(...(await findingsOfMerge({ transaction, packages, head: store.head, engine, verdict })));
      if (!force && isRefused(findings)) {
        await undo(store, id, generation);
        return { kind: 'refused', findings };
      }
    }

    step('sync-layer');
    await store.bodiesToLayer(id, context.sync);

    step('write-generation');
    await store.writeGeneration(
      record(transaction, generation, { built: rebased.built, packages, findings, createdMs: context.nowMs() }),
    );

    // What the swap needs of the manifest is read now: once HEAD has moved there is no way back.
    engine.stat({ generation }, Buffer.alloc(0));

    step('move-head');
    await store.moveHead(generation);
  } catch (error) {
    await undo(store, id, generation);
    throw asStoreError(error, `generation ${generation} can't be written`);
  }

  step('swap');
  engine.publish({ generation, transaction: id });

  step('release');
  const warnings = findings.map((finding) => finding.message);
  try {
    await store.removeTransaction(id);
  } catch (error) {
    // It is committed all the same. What is left is deleted by recovery, which knows that.
    warnings.push(`the next mount deletes what it left in the store, since that can't be done now: ${describe(error)}`);
  }
  crashPoint('released');
  return { kind: 'committed', generation, packages, warnings };
}

function reach(name: CommitStep, { onStep }: Pick<CommitContext, 'onStep'>): void {
  onStep(name);
  crashPoint(name);
}

function record(
  transaction: Transaction,
  generation: number,
  made: { built: BuildOutcome; packages: PackageChange[]; findings: readonly Finding[]; createdMs: number },
): Generation {
  const { built, packages, findings, createdMs } = made;
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
    warnings: findings.map(({ message }) => message),
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
