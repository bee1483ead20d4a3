/** One project, two metadata directories: which one importlib.metadata finds is chance, and pip removes only one. */
import { parentOf } from '../distributions.js';
import type { Check } from './check.js';
import type { CheckContext } from './context.js';
import { readFacts, type DistributionFacts } from './facts.js';
import type { Finding } from './input.js';
import { shown } from './words.js';

export const duplicateMetadata: Check = {
  name: 'duplicate-metadata',
  run: async (context) => (await Promise.all(context.directories.map((each) => inDirectory(each, context)))).flat(),
};

async function inDirectory(directory: string, context: CheckContext): Promise<Finding[]> {
  const here = (await context.factsAfter()).filter(({ path, kind }) => parentOf(path) === directory && kind !== 'egg');
  const byName = new Map<string, DistributionFacts[]>();
  for (const facts of here) byName.set(facts.name, [...(byName.get(facts.name) ?? []), facts]);
  const doubled = [...byName].filter(([, all]) => all.length > 1);
  if (doubled.length === 0) return [];
  const was = new Set((await readFacts(context.before, [directory])).map(({ name, path }) => `${name} ${path}`));
  return doubled.flatMap(([name, all]): Finding[] => {
    const fresh = all.find(({ path }) => !was.has(`${name} ${path}`));
    if (!fresh) return [];
    const mild = all.some(({ kind }) => kind === 'egg-link') || isSameTwice(all);
    const paths = all.map(({ path }) => shown(path)).join(' and ');
    const message = `${name} is installed twice: ${paths}`;
    // `setup.py develop` puts its link beside an ordinary install and takes precedence over it.
    return [{ severity: mild ? 'warning' : 'error', check: 'duplicate-metadata', path: fresh.path, message }];
  });
}

/** A dist-info and an egg-info that say the same: some packages of Debian's have both. */
function isSameTwice(all: readonly DistributionFacts[]): boolean {
  const [first] = all;
  return (
    all.every(({ version }) => version === first?.version) && new Set(all.map(({ kind }) => kind)).size === all.length
  );
}
