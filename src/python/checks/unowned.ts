/**
 * Files that a transaction added beside its distributions, and that none of them lists: no uninstall will remove them. A
 * transaction that touched no metadata at all (`cp`) is not an installer's, and may put files where it likes.
 */
import type { Check } from './check.js';
import type { CheckContext } from './context.js';
import { CRUFT } from './cruft.js';
import type { Finding } from './input.js';
import { listsAll, ownersIn } from './owners.js';
import { isBelow } from './tree-index.js';
import { count, listedPaths, shown } from './words.js';

export const unowned: Check = {
  name: 'unowned',
  run: async (context) => {
    const directories = [...new Set(context.metadata.map(({ directory }) => directory))];
    return (await Promise.all(directories.map((each) => inDirectory(each, context)))).flat();
  },
};

async function inDirectory(directory: string, context: CheckContext): Promise<Finding[]> {
  const touched = new Set(context.metadata.map(({ path }) => path));
  const claims = (await context.claimsIn(directory)).filter(({ path }) => touched.has(path));
  if (!claims.every(listsAll)) return [];
  const trust = await Promise.all(
    claims.filter(({ source }) => source === 'RECORD').map(({ path }) => context.trustIn(path)),
  );
  if (trust.some((each) => each !== 'installer')) return [];
  const owners = await ownersIn(directory, context);
  // By what lies in the directory itself: a package, a module.
  const found = new Map<string, string[]>();
  for (const [path, kind] of context.kinds) {
    if (kind !== 'added' || !isBelow(path, directory) || context.after.typeOf(path) === 'directory') continue;
    const inside = directory === '' ? path : path.slice(directory.length + 1);
    if (CRUFT.test(inside) || owners.owns(path)) continue;
    const top = path.slice(0, path.length - inside.length) + (inside.split('/')[0] ?? inside);
    found.set(top, [...(found.get(top) ?? []), path]);
  }
  return [...found].map(([top, paths]): Finding => {
    const what =
      paths[0] === top ? shown(top) : `${count(paths.length, 'file')} in ${shown(top)} (${listedPaths(paths)})`;
    const message = `${what}: added, but no distribution lists ${paths.length === 1 ? 'it' : 'them'}`;
    return { severity: 'warning', check: 'unowned', path: paths[0] ?? top, message };
  });
}
