/** Metadata without a package: none of the files that it lists exists, or an uninstall left a part of it. */
import { joinPath } from '../distributions.js';
import type { Check } from './check.js';
import type { Claims } from './claims.js';
import type { CheckContext, TouchedMetadata } from './context.js';
import type { Finding } from './input.js';
import { isBelow, isBytecode, type TreeIndex } from './tree-index.js';
import { count, listedPaths, shown } from './words.js';

export const orphanMetadata: Check = {
  name: 'orphan-metadata',
  run: async (context) => (await Promise.all(context.metadata.map((each) => checkOne(each, context)))).flat(),
};

async function checkOne(touched: TouchedMetadata, context: CheckContext): Promise<Finding[]> {
  const { path, isDirectory, written } = touched;
  const { after } = context;
  if (!isDirectory) return [];
  const finding = (severity: Finding['severity'], message: string): Finding[] => [
    { severity, check: 'orphan-metadata', path, message },
  ];
  const claims = await context.claimsOf(touched);
  if (claims.source === 'none') {
    const known = ['METADATA', 'PKG-INFO'].some((name) => after.has(joinPath(path, name)));
    if (written || known) return [];
    return finding(
      'warning',
      `${shown(path)} is what was left of a distribution: ${listedPaths(after.filesBelow(path))}`,
    );
  }
  if (!isOrphan(claims, after) || (await context.newClaims(claims)).length === 0) return [];
  const files = ownFiles(claims);
  const what = `${shown(path)} is there, but of the ${count(files.length, 'file')} that it lists, none: ${listedPaths(files)}`;
  return finding((await isTrusted(touched, context)) ? 'error' : 'warning', what);
}

/** Who wrote installed-files.txt is never said. */
async function isTrusted({ kind, path }: TouchedMetadata, context: CheckContext): Promise<boolean> {
  return kind !== 'dist-info' || (await context.trustIn(path)) === 'installer';
}

/** It lists files (a package that is metadata only does not), and none of them exists. */
export function isOrphan(claims: Claims, tree: TreeIndex): boolean {
  const files = ownFiles(claims);
  return files.length > 0 && !files.some((path) => tree.has(path));
}

function ownFiles({ path, files }: Claims): string[] {
  return [...files.keys()].filter((file) => !isBelow(file, path) && !isBytecode(file));
}
