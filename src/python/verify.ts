/**
 * What a transaction's result is checked for before it is shown. Each check has a name; it looks at the metadata that the
 * transaction added or changed, never at what was there before: old defects are not its fault.
 */
import { parseMetadataName } from './dist-info.js';
import {
  diffDistributions,
  joinPath,
  METADATA_FILE,
  readDistribution,
  type Distribution,
  type PackageDifference,
  type TreeReader,
} from './distributions.js';

export interface Finding {
  severity: 'error' | 'warning';
  /** The check's name. */
  check: string;
  path: string;
  /** One line, with the path. */
  message: string;
}

export interface ChangedPath {
  path: string;
  kind: 'added' | 'removed' | 'modified' | 'attributes';
}

export interface VerifyInput {
  before: TreeReader;
  after: TreeReader;
  changes: readonly ChangedPath[];
}

export interface VerifyResult {
  findings: Finding[];
  packages: PackageDifference[];
}

/** `metadata`: paths of the `.dist-info`, `.egg-info` and `.egg-link` that were touched. */
type Check = (after: TreeReader, metadata: readonly string[]) => Finding[];

/** An install that was cut short leaves a metadata directory without the files that are written last. */
const metadataComplete: Check = (after, metadata) =>
  metadata.flatMap((path) => {
    const kind = parseMetadataName(path.slice(path.lastIndexOf('/') + 1))?.kind;
    const entries = after.list(path);
    // Removed, or an egg-info that is a single file.
    if (!kind || kind === 'egg-link' || entries === null) return [];
    const required = kind === 'dist-info' ? [METADATA_FILE[kind], 'RECORD'] : [METADATA_FILE[kind]];
    return required
      .filter((name) => !entries.some((entry) => entry.name === name && entry.type === 'file'))
      .map((name) => ({
        severity: 'error' as const,
        check: 'metadata-complete',
        path: joinPath(path, name),
        message: `${path} has no ${name}`,
      }));
  });

const CHECKS: readonly Check[] = [metadataComplete];

export async function verify({ before, after, changes }: VerifyInput): Promise<VerifyResult> {
  const metadata = touchedMetadata(changes);
  const findings = CHECKS.flatMap((check) => check(after, metadata));
  const [was, is] = [await readAll(before, metadata), await readAll(after, metadata)];
  return { findings, packages: diffDistributions(was, is) };
}

/** Paths of the metadata that a change lies at or below, each once. */
export function touchedMetadata(changes: readonly ChangedPath[]): string[] {
  const paths = new Set<string>();
  for (const { path } of changes) {
    const parts = path.split('/');
    const at = parts.findIndex((part) => parseMetadataName(part) !== null);
    if (at >= 0) paths.add(parts.slice(0, at + 1).join('/'));
  }
  return [...paths].sort();
}

async function readAll(tree: TreeReader, paths: readonly string[]): Promise<Distribution[]> {
  const found = await Promise.all(paths.map((path) => readDistribution(tree, path)));
  return found.filter((each) => each !== null);
}
