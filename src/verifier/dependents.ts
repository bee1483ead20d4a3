/** `--verify deep`: the modules of distributions that need one that changed. */
import { joinPath, parentOf, type PackageDifference, type TreeReader } from '../python/distributions.js';
import { readFacts, type DistributionFacts } from '../python/checks/facts.js';
import { normalizeName } from '../python/dist-info.js';
import { parseRecord } from '../python/record.js';
import { parseRequirement } from '../python/requirement.js';
import { touchedModules } from './modules.js';

/** Of those that need a changed one directly, and are there in `after`. */
export async function modulesOfDependents(
  packages: readonly PackageDifference[],
  after: TreeReader,
): Promise<string[]> {
  const changed = new Set(packages.map(({ name }) => name));
  const facts = await readFacts(after);
  const dependents = facts.filter(
    ({ name, requires }) => !changed.has(name) && requires.some((text) => needs(text, changed)),
  );
  const modules = await Promise.all(dependents.map((each) => modulesOf(each, after)));
  return [...new Set(modules.flat())].sort();
}

function needs(requirement: string, names: ReadonlySet<string>): boolean {
  const parsed = parseRequirement(requirement);
  return parsed !== null && names.has(normalizeName(parsed.name));
}

async function modulesOf({ path, kind }: DistributionFacts, tree: TreeReader): Promise<string[]> {
  const directory = parentOf(path);
  const read = async (name: string): Promise<string> =>
    (await tree.read(joinPath(path, name)))?.toString('latin1') ?? '';
  const rows =
    kind === 'dist-info'
      ? parseRecord(await read('RECORD')).rows.map((row) => row.path)
      : (await read('SOURCES.txt')).split('\n').filter((line) => line !== '');
  const files = rows.filter((row) => !row.startsWith('/') && !row.startsWith('../'));
  return touchedModules(
    files.map((file) => ({ path: joinPath(directory, file), kind: 'modified' })),
    tree,
  );
}
