/** Which files a distribution says are its own: RECORD, installed-files.txt, or the names in top_level.txt. */
import { posix } from 'node:path';
import type { MetadataKind } from '../dist-info.js';
import { joinPath, parentOf } from '../distributions.js';
import { parseRecord, type RecordRow } from '../record.js';
import { type TreeIndex } from './tree-index.js';

export interface Claims {
  /** Of the metadata. */
  path: string;
  kind: MetadataKind;
  /** `none`: it left no list (single-file egg-infos, what a system's package manager installed). */
  source: 'RECORD' | 'installed-files.txt' | 'top_level.txt' | 'none';
  /** By path in the tree. */
  files: ReadonlyMap<string, RecordRow>;
  /** Paths outside of the tree: absolute, or `../…` from its root. */
  outside: readonly string[];
  /** With `top_level.txt`: modules, as paths without suffix; all that is below or begins so is its own. */
  modules: readonly string[];
  /** Of the RECORD's syntax. */
  problems: readonly string[];
}

export async function readClaims(tree: TreeIndex, path: string, kind: MetadataKind): Promise<Claims> {
  const none: Claims = { path, kind, source: 'none', files: new Map(), outside: [], modules: [], problems: [] };
  if (kind === 'egg-link' || tree.entries(path) === null) return none;
  if (kind === 'dist-info') {
    const record = await tree.read(joinPath(path, 'RECORD'));
    if (record === null) return none;
    const { rows, problems } = parseRecord(record.toString('latin1'));
    return { ...none, source: 'RECORD', problems, ...located(rows, parentOf(path)) };
  }
  const installed = await linesOf(tree, joinPath(path, 'installed-files.txt'));
  if (installed) {
    const rows = installed.map((row) => ({ path: row, hash: null, sizeBytes: null }));
    return { ...none, source: 'installed-files.txt', ...located(rows, path) };
  }
  const modules = await linesOf(tree, joinPath(path, 'top_level.txt'));
  if (!modules) return none;
  return { ...none, source: 'top_level.txt', modules: modules.map((name) => joinPath(parentOf(path), name)) };
}

/** Lines that are not empty, `latin1`; null when there is no such file. */
export async function linesOf(tree: TreeIndex, path: string): Promise<string[] | null> {
  const content = await tree.read(path);
  if (content === null) return null;
  return content
    .toString('latin1')
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean);
}

function located(rows: readonly RecordRow[], base: string): Pick<Claims, 'files' | 'outside'> {
  const files = new Map<string, RecordRow>();
  const outside: string[] = [];
  for (const row of rows) {
    const path = posix.normalize(row.path.startsWith('/') ? row.path : joinPath(base, row.path));
    if (path.startsWith('/') || path === '..' || path.startsWith('../')) outside.push(path);
    else files.set(path, row);
  }
  return { files, outside };
}

/** What an installer notes about itself, and what it can't know the hash of. */
export function isInstallersNote(path: string, metadata: string): boolean {
  return (
    parentOf(path) === metadata &&
    /^(INSTALLER|REQUESTED|RECORD|RECORD\.(jws|p7s)|direct_url\.json)$/.test(posix.basename(path))
  );
}
