/** Whether any distribution in a directory says that a file is its own. */
import { joinPath } from '../distributions.js';
import type { Claims } from './claims.js';
import type { CheckContext } from './context.js';
import { isBelow, isBytecode } from './tree-index.js';

/** Written by setuptools for all that it installs as eggs or links. */
const SHARED = /^(easy-install|setuptools)\.pth$/;

export interface Owners {
  /** Bytecode belongs to its source, whatever becomes of that. */
  owns(path: string): boolean;
}

export async function ownersIn(directory: string, context: CheckContext): Promise<Owners> {
  const all = await context.claimsIn(directory);
  const trees = all.map(({ path }) => path);
  const modules = all.flatMap((claims) => claims.modules);
  const listed = new Set(all.flatMap(({ files }) => [...files.keys()]));
  const inEgg = (path: string): boolean =>
    /\.egg(\/|$)/.test(directory === '' ? path : path.slice(directory.length + 1));
  return {
    owns: (path) =>
      listed.has(path) ||
      isCacheOf(path, context) ||
      SHARED.test(directory === '' ? path : path.slice(directory.length + 1)) ||
      inEgg(path) ||
      trees.some((tree) => path === tree || isBelow(path, tree)) ||
      modules.some((module) => path.startsWith(`${module}/`) || path.startsWith(`${module}.`)),
  };
}

/** `a/__pycache__/b.cpython-311.pyc` with `a/b.py` there. */
function isCacheOf(path: string, { after }: CheckContext): boolean {
  const match = /^(.*?)(?:__pycache__\/)([^/.]+)\.[^/]*$/.exec(path);
  if (!match || !isBytecode(path)) return false;
  return after.has(joinPath((match[1] ?? '').replace(/\/$/, ''), `${match[2] ?? ''}.py`));
}

/** Its list is whole: what is not in it is not its own. */
export function listsAll({ source, kind }: Claims): boolean {
  return source === 'RECORD' || source === 'installed-files.txt' || kind === 'egg-link';
}
