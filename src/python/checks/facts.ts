/** What the metadata of distributions says about them: name, version, needs. Of eggs too. */
import { normalizeName, parseMetadata, parseMetadataName, type MetadataKind } from '../dist-info.js';
import { joinPath, METADATA_FILE, type TreeReader } from '../distributions.js';
import { requiresOfEggInfo } from '../requirement.js';
import { mapSome } from './map-some.js';

export interface DistributionFacts {
  /** Normalised. */
  name: string;
  /** As written. */
  project: string;
  /** Empty when it is not known. */
  version: string;
  kind: MetadataKind | 'egg';
  /** Of the metadata (of the egg). */
  path: string;
  /** As `Requires-Dist` has them. */
  requires: readonly string[];
}

/**
 * Distributions in these directories, by path; without `directories`, in the root or, in an environment's prefix, where
 * Python looks. `known`: facts that need not be read again.
 */
export async function readFacts(
  tree: TreeReader,
  directories: readonly string[] = siteDirectories(tree),
  known: ReadonlyMap<string, DistributionFacts> = new Map(),
): Promise<DistributionFacts[]> {
  const paths = directories.flatMap((directory) =>
    (tree.list(directory) ?? [])
      .filter(({ name }) => isDistribution(name))
      .map(({ name }) => joinPath(directory, name)),
  );
  const facts = await mapSome(paths.sort(), async (path) => known.get(path) ?? (await readOne(tree, path)));
  return facts.filter((each) => each !== null);
}

/** Directories of a tree in which Python looks for distributions: the root itself, or those of a prefix. */
export function siteDirectories(tree: TreeReader): string[] {
  const found = [''];
  for (const library of ['lib', 'lib64', 'local/lib']) {
    for (const { name, type } of tree.list(library) ?? []) {
      // `lib64` may be a link to `lib`.
      if (type !== 'directory' || !/^(python|pypy)[\d.]*t?$/.test(name)) continue;
      found.push(...['site-packages', 'dist-packages'].map((folder) => `${library}/${name}/${folder}`));
    }
  }
  return found.filter((path) => tree.list(path) !== null);
}

export function isDistribution(name: string): boolean {
  return parseMetadataName(name) !== null || eggName(name) !== null;
}

/** `name-1.0-py3.11.egg`. */
function eggName(entry: string): { name: string; version: string } | null {
  const match = /^([^-~][^-]*)-([^-]+)(?:-.*)?\.egg$/.exec(entry);
  return match && { name: match[1] ?? '', version: match[2] ?? '' };
}

async function readOne(tree: TreeReader, path: string): Promise<DistributionFacts | null> {
  const entry = path.slice(path.lastIndexOf('/') + 1);
  const metadata = parseMetadataName(entry);
  const named = metadata ?? eggName(entry);
  if (!named) return null;
  const kind = metadata?.kind ?? 'egg';
  const isDirectory = tree.list(path) !== null;
  const inside = kind === 'egg' ? joinPath(path, 'EGG-INFO') : path;
  const text = await readText(
    tree,
    isDirectory ? joinPath(inside, kind === 'dist-info' ? METADATA_FILE[kind] : METADATA_FILE['egg-info']) : path,
  );
  const fields = kind === 'egg-link' || text === null || (kind === 'egg' && !isDirectory) ? null : parseMetadata(text);
  const ofEgg = isDirectory && kind !== 'dist-info' ? await readText(tree, joinPath(inside, 'requires.txt')) : null;
  const project = fields?.get('name')?.[0] || named.name;
  return {
    name: normalizeName(project),
    project,
    version: fields?.get('version')?.[0] ?? named.version,
    kind,
    path,
    requires: ofEgg === null ? (fields?.get('requires-dist') ?? []) : requiresOfEggInfo(ofEgg),
  };
}

async function readText(tree: TreeReader, path: string): Promise<string | null> {
  return (await tree.read(path))?.toString('utf8') ?? null;
}
