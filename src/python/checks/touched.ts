/** Which metadata a transaction touched. */
import { parseMetadataName } from '../dist-info.js';
import type { ChangedPath } from './input.js';

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
