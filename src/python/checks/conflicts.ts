/**
 * Files that two distributions claim, with different contents: one of the two has been overwritten by the other, and the
 * uninstall of either breaks the other. The same contents (a namespace's `__init__.py`) are no conflict.
 */
import { normalizeName, parseMetadataName } from '../dist-info.js';
import { joinPath, parentOf } from '../distributions.js';
import type { RecordRow } from '../record.js';
import type { Check } from './check.js';
import type { Claims } from './claims.js';
import type { CheckContext } from './context.js';
import type { Finding } from './input.js';
import { isBytecode } from './tree-index.js';
import { count, listedPaths, shown } from './words.js';

const IMPORTED = /\.(py|pth|so|pyd)$/;

export const conflicts: Check = {
  name: 'conflicts',
  async run(context) {
    const findings: Finding[] = [];
    for (const directory of context.directories) findings.push(...(await inDirectory(directory, context)));
    return findings;
  },
};

async function inDirectory(directory: string, context: CheckContext): Promise<Finding[]> {
  const all = await context.claimsIn(directory);
  const touched = new Set(context.metadata.map(({ path }) => path));
  const ours = all.filter(({ path }) => touched.has(path));
  const claimed = new Map<string, Claims[]>();
  for (const claims of ours) for (const path of claims.files.keys()) claimed.set(path, []);
  for (const claims of all) for (const path of claims.files.keys()) claimed.get(path)?.push(claims);
  const byPair = new Map<string, string[]>();
  for (const [path, owners] of claimed) {
    if (owners.length < 2 || isBytecode(path)) continue;
    const pair = differing(path, owners);
    if (!pair || !pair.some((claims) => touched.has(claims.path)) || (await conflictedBefore(path, pair, context)))
      continue;
    const key = pair.map((claims) => shown(claims.path)).join(' and ');
    byPair.set(key, [...(byPair.get(key) ?? []), path]);
  }
  const fought = [...byPair].map(([pair, paths]) => finding(pair, paths.sort(), directory));
  return [...fought, ...taken(all, touched, context)];
}

function finding(pair: string, paths: readonly string[], directory: string): Finding {
  // Nothing imports a README or a LICENSE that several packages drop into the directory itself.
  const serious = paths.find((path) => parentOf(path) !== directory || IMPORTED.test(path));
  const path = serious ?? paths[0] ?? directory;
  const more = paths.length > 1 ? ` and ${paths.length - 1} more` : '';
  const message = `${shown(path)}${more}: ${pair} both have it, with different contents`;
  return { severity: serious === undefined ? 'warning' : 'error', check: 'conflicts', path, message };
}

/** The first two that do not agree. */
function differing(path: string, owners: readonly Claims[]): [Claims, Claims] | null {
  for (const [index, one] of owners.entries()) {
    const other = owners.slice(index + 1).find((each) => differ(one.files.get(path), each.files.get(path)));
    if (other) return [one, other];
  }
  return null;
}

function differ(one: RecordRow | undefined, other: RecordRow | undefined): boolean {
  if (!one?.hash || one.hash.algorithm !== other?.hash?.algorithm) return false;
  return !one.hash.digest.equals(other.hash.digest);
}

/** Whether the same two projects, in whatever versions, were at odds about the path before. */
async function conflictedBefore(path: string, pair: readonly Claims[], context: CheckContext): Promise<boolean> {
  const rows = await Promise.all(
    pair.map(async ({ path: metadata }) => {
      const directory = parentOf(metadata);
      const project = projectOf(metadata);
      const names = [...(context.before.entries(directory)?.keys() ?? [])].filter(
        (name) => projectOf(name) === project,
      );
      const was = await Promise.all(names.map((name) => context.claimsBefore(joinPath(directory, name))));
      return was.map(({ files }) => files.get(path));
    }),
  );
  const [ones = [], others = []] = rows;
  return ones.some((one) => others.some((other) => differ(one, other)));
}

function projectOf(path: string): string | null {
  const named = parseMetadataName(path.slice(path.lastIndexOf('/') + 1));
  return named && normalizeName(named.name);
}

/** An uninstall that took a file which another distribution, not part of the transaction, has too. */
function taken(all: readonly Claims[], touched: ReadonlySet<string>, { kinds, after }: CheckContext): Finding[] {
  return all
    .filter((claims) => !touched.has(claims.path))
    .flatMap(({ path: owner, files }): Finding[] => {
      const gone = [...files.keys()].filter(
        (path) => kinds.get(path) === 'removed' && !isBytecode(path) && !after.has(path),
      );
      const [path] = gone;
      if (path === undefined) return [];
      const message = `${shown(owner)} has lost ${count(gone.length, 'file')} with this: ${listedPaths(gone)}`;
      return [{ severity: 'warning', check: 'conflicts', path, message }];
    });
}
