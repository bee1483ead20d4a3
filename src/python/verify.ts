/**
 * What a transaction's result is checked for before it is shown: runs the checks of checks/, and tells what happened to
 * distributions.
 */
import type { Check, CheckName } from './checks/check.js';
import { CheckContext } from './checks/context.js';
import { CHECKS } from './checks/index.js';
import type { CheckInput, Finding } from './checks/input.js';
import {
  diffDistributions,
  readDistribution,
  type Distribution,
  type PackageDifference,
  type TreeReader,
} from './distributions.js';

export type { ChangedPath, CheckInput, Finding } from './checks/input.js';
export { touchedMetadata } from './checks/touched.js';

export interface VerifyOptions {
  checks?: readonly Check[];
  onCheck?: (name: CheckName) => void;
}

export interface VerifyResult {
  findings: Finding[];
  packages: PackageDifference[];
  /** In the order in which they ran. What checks share counts for the first that asked. */
  checks: { name: CheckName; durationMs: number }[];
}

export async function verify(input: CheckInput, options: VerifyOptions = {}): Promise<VerifyResult> {
  const context = new CheckContext(input);
  const result: VerifyResult = { findings: [], packages: await packagesOf(context), checks: [] };
  for (const check of options.checks ?? CHECKS) {
    const { name } = check;
    options.onCheck?.(name);
    const start = performance.now();
    result.findings.push(...(await check.run(context)));
    result.checks.push({ name, durationMs: performance.now() - start });
  }
  return result;
}

async function packagesOf({ touched, before, after }: CheckContext): Promise<PackageDifference[]> {
  return diffDistributions(await readAll(before, touched), await readAll(after, touched));
}

async function readAll(tree: TreeReader, paths: readonly string[]): Promise<Distribution[]> {
  const found = await Promise.all(paths.map((path) => readDistribution(tree, path)));
  return found.filter((each) => each !== null);
}
