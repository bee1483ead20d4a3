/** Which files a distribution owns, by what its installer wrote down: RECORD, or an egg-info's installed-files.txt. */
import { posix } from 'node:path';
import { joinPath, listDistributions, parentOf, type Distribution, type TreeReader } from './distributions.js';
import { parseRecord } from './record.js';

/**
 * Paths of files in `tree` that belong to the distributions `names` and to no other one, and that `kept` does not have;
 * a directory instead of all that is in it when nothing of it stays. `directories`: where metadata lies.
 */
export async function leftoversOf(
  names: ReadonlySet<string>,
  directories: readonly string[],
  tree: TreeReader,
  kept: TreeReader,
): Promise<string[]> {
  const all = (await Promise.all(directories.map((directory) => listDistributions(tree, directory)))).flat();
  const owned = new Set<string>();
  const others = new Set<string>();
  for (const distribution of all) {
    const files = await ownedFiles(tree, distribution);
    for (const path of files) (names.has(distribution.name) ? owned : others).add(path);
  }
  const has = existence(tree);
  const stays = existence(kept);
  const gone = new Set([...owned].filter((path) => !others.has(path) && has(path) && !stays(path)));
  return collapse(gone, tree, stays);
}

async function ownedFiles(tree: TreeReader, { path, kind }: Distribution): Promise<string[]> {
  const files = filesBelow(tree, path);
  const listed =
    kind === 'dist-info'
      ? { base: posix.dirname(path), rows: await recordRows(tree, path) }
      : { base: path, rows: lines(await tree.read(joinPath(path, 'installed-files.txt'))) };
  for (const row of listed.rows) {
    const file = posix.join(listed.base, row);
    if (row.startsWith('/') || file.startsWith('../')) continue;
    files.push(file, ...bytecodeOf(tree, file));
  }
  return files;
}

async function recordRows(tree: TreeReader, path: string): Promise<string[]> {
  const record = await tree.read(joinPath(path, 'RECORD'));
  return record === null ? [] : parseRecord(record.toString('latin1')).rows.map((row) => row.path);
}

function lines(content: Buffer | null): string[] {
  return content === null ? [] : content.toString('latin1').split('\n').filter(Boolean);
}

function filesBelow(tree: TreeReader, path: string): string[] {
  const entries = tree.list(path);
  if (entries === null) return [path];
  return entries.flatMap(({ name, type }) =>
    type === 'directory' ? filesBelow(tree, joinPath(path, name)) : [joinPath(path, name)],
  );
}

/** Compiled by a reader or by the installer, listed or not. */
function bytecodeOf(tree: TreeReader, file: string): string[] {
  if (!file.endsWith('.py')) return [];
  const cache = joinPath(parentOf(file), '__pycache__');
  const stem = `${posix.basename(file, '.py')}.`;
  return (tree.list(cache) ?? [])
    .filter(({ name }) => name.startsWith(stem) && name.endsWith('.pyc'))
    .map(({ name }) => joinPath(cache, name));
}

function existence(tree: TreeReader): (path: string) => boolean {
  const listings = new Map<string, Set<string>>();
  return (path) => {
    const parent = parentOf(path);
    let names = listings.get(parent);
    if (!names) listings.set(parent, (names = new Set((tree.list(parent) ?? []).map(({ name }) => name))));
    return names.has(posix.basename(path));
  };
}

function collapse(gone: ReadonlySet<string>, tree: TreeReader, stays: (path: string) => boolean): string[] {
  const result = new Set(gone);
  // Deepest first, so that what a directory holds is decided before the directory is.
  const parents = new Set([...gone].flatMap(ancestorsOf));
  for (const directory of [...parents].sort((a, b) => b.split('/').length - a.split('/').length)) {
    const inside = (tree.list(directory) ?? []).map(({ name }) => joinPath(directory, name));
    if (stays(directory) || !inside.every((path) => result.has(path))) continue;
    for (const path of inside) result.delete(path);
    result.add(directory);
  }
  return [...result].sort();
}

function ancestorsOf(path: string): string[] {
  const parent = parentOf(path);
  return parent === '' ? [] : [parent, ...ancestorsOf(parent)];
}
