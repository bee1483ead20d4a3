/**
 * What two transactions bring about together, and neither by itself: a version that the one installs and a distribution
 * of the other does not go with. Judged by lists of distributions, for the merged tree exists only as a manifest by then.
 * Called by commit.ts when HEAD has moved since the transaction began.
 */
import { dependencies, dependencyFindings } from '../python/checks/dependencies.js';
import { readFacts } from '../python/checks/facts.js';
import type { Finding } from '../python/verify.js';
import type { PackageChange } from '../store/generation.js';
import type { Verdict } from './commit.js';
import type { EnginePort } from './engine-port.js';
import type { Transaction } from './transaction.js';
import { readerOf } from './verification.js';

export interface MergeInput {
  transaction: Transaction;
  packages: readonly PackageChange[];
  head: number;
  engine: EnginePort;
  verdict: Verdict;
}

/** Nothing when dependencies are not to be checked. */
export async function findingsOfMerge(input: MergeInput): Promise<Finding[]> {
  const { transaction, packages, head, engine, verdict } = input;
  if (!verdict.checks.some(({ name }) => name === dependencies.name)) return [];
  const before = await readFacts(readerOf(engine, { generation: head }));
  const ours = await readFacts(readerOf(engine, { transaction: transaction.id }));
  const changed = new Set(packages.map(({ name }) => name));
  const after = [...before.filter(({ name }) => !changed.has(name)), ...ours.filter(({ name }) => changed.has(name))];
  const told = new Set(verdict.findings.map(({ message }) => message));
  const { markers = null, elsewhere = [] } = verdict.interpreter ?? {};
  return dependencyFindings(before, after, { markers, elsewhere }).filter(({ message }) => !told.has(message));
}
