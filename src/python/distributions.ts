/**
 * Which distributions a tree holds: `.dist-info` and `.egg-info` directories, `.egg-info` files and `.egg-link`s.
 *
 * Independent of where the tree is: `TreeReader` has a view of the engine behind it, or a plain directory.
 */
import { posix } from 'node:path';
import { normalizeName, parseMetadataName, parseNameAndVersion, type MetadataKind } from './dist-info.js';

export interface TreeEntry {
  name: string;
  type: string;
}

/** Paths are relative to the tree's root, with `/`; the root is ''. Names are `latin1`: one character per byte. */
export interface TreeReader {
  /** Null when there is no such directory. */
  list(path: string): TreeEntry[] | null;
  /** Null when there is no such file. */
  read(path: string): Promise<Buffer | null>;
}

export interface Distribution {
  /** Normalised. */
  name: string;
  version: string;
  kind: MetadataKind;
  /** Of the directory or file that says so. */
  path: string;
}

export interface PackageDifference {
  name: string;
  from: string | null;
  to: string | null;
}

/** The file in a metadata directory that has its name and version. */
export const METADATA_FILE: Record<'dist-info' | 'egg-info', string> = {
  'dist-info': 'METADATA',
  'egg-info': 'PKG-INFO',
};

export function joinPath(directory: string, name: string): string {
  return directory === '' ? name : `${directory}/${name}`;
}

/** Of a path in the root it is ''. */
export function parentOf(path: string): string {
  const parent = posix.dirname(path);
  return parent === '.' ? '' : parent;
}

/** Distributions whose metadata lies in `directory`, by path. */
export async function listDistributions(tree: TreeReader, directory = ''): Promise<Distribution[]> {
  const found: Distribution[] = [];
  for (const { name } of tree.list(directory) ?? []) {
    const distribution = await readDistribution(tree, joinPath(directory, name));
    if (distribution) found.push(distribution);
  }
  return found.sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** Null when nothing is there, or its name is no distribution's. What the metadata lacks is taken from the name. */
export async function readDistribution(tree: TreeReader, path: string): Promise<Distribution | null> {
  const named = parseMetadataName(path.slice(path.lastIndexOf('/') + 1));
  if (!named) return null;
  const { kind } = named;
  const isDirectory = tree.list(path) !== null;
  const bytes =
    kind !== 'egg-link' && isDirectory ? await tree.read(joinPath(path, METADATA_FILE[kind])) : await tree.read(path);
  if (bytes === null && !isDirectory) return null;
  const written = bytes === null || kind === 'egg-link' ? null : parseNameAndVersion(bytes.toString('utf8'));
  return {
    name: normalizeName(written?.name ?? named.name),
    version: written?.version ?? named.version,
    kind,
    path,
  };
}

/** What changed, by name. Of several that claim one name, importlib.metadata takes the first listed; so do we. */
export function diffDistributions(
  before: readonly Distribution[],
  after: readonly Distribution[],
): PackageDifference[] {
  const [was, is] = [before, after].map(versions);
  const names = new Set([...(was?.keys() ?? []), ...(is?.keys() ?? [])]);
  return [...names]
    .map((name) => ({ name, from: was?.get(name) ?? null, to: is?.get(name) ?? null }))
    .filter(({ from, to }) => from !== to)
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

function versions(distributions: readonly Distribution[]): Map<string, string> {
  const byName = new Map<string, string>();
  for (const { name, version } of distributions) {
    if (!byName.has(name)) byName.set(name, version);
  }
  return byName;
}
