/**
 * Lines of `.pth` files that were added and point nowhere: what the installer meant to put on the path is not there.
 * Read as site.py does; lines that are code (`import …`) are neither executed nor judged.
 */
import { posix } from 'node:path';
import { joinPath, parentOf } from '../distributions.js';
import type { Check } from './check.js';
import { linesOf } from './claims.js';
import type { CheckContext } from './context.js';
import type { Finding } from './input.js';
import { listedPaths, shown } from './words.js';

export const pth: Check = {
  name: 'pth',
  run: async (context) => {
    const paths = [...context.kinds].filter(([path, kind]) => kind !== 'removed' && isSitePth(path, context));
    return (await Promise.all(paths.map(([path]) => checkOne(path, context)))).flat();
  },
};

/** Elsewhere nobody reads them (setuptools has one inside). */
function isSitePth(path: string, { directories }: CheckContext): boolean {
  const directory = parentOf(path);
  if (!path.endsWith('.pth')) return false;
  return directory === '' || directories.includes(directory) || /(?:^|\/)(?:site|dist)-packages$/.test(directory);
}

async function checkOne(path: string, context: CheckContext): Promise<Finding[]> {
  const lines = await linesOf(context.after, path);
  const old = new Set(await linesOf(context.before, path));
  const nowhere = (lines ?? [])
    .map((line) => line.replace(/^\xef\xbb\xbf/, ''))
    .filter((line) => !/^(?:#|import[ \t])/.test(line) && !old.has(line))
    .filter((line) => pointsNowhere(line, parentOf(path), context));
  if (nowhere.length === 0) return [];
  const message = `${shown(path)} points to ${listedPaths(nowhere)}, where there is nothing`;
  return [{ severity: 'warning', check: 'pth', path, message }];
}

/** A path from `directory` of the tree. What lies outside of it only `existsOutside` can tell. */
export function pointsNowhere(line: string, directory: string, { after, input }: CheckContext): boolean {
  const path = posix.normalize(line.startsWith('/') ? line : joinPath(directory, line)).replace(/\/$/, '');
  if (path === '.') return false;
  const outside = path === '' || path.startsWith('/') || path === '..' || path.startsWith('../');
  if (!outside) return !after.has(path);
  return input.existsOutside !== undefined && !input.existsOutside(path || '/');
}
