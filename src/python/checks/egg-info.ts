/** Installs of before wheels: what installed-files.txt and top_level.txt list, eggs, and where egg-links lead. */
import { joinPath, parentOf } from '../distributions.js';
import type { Check } from './check.js';
import { linesOf, type Claims } from './claims.js';
import type { CheckContext, TouchedMetadata } from './context.js';
import type { Finding } from './input.js';
import { isOrphan } from './orphan-metadata.js';
import { pointsNowhere } from './pth.js';
import { isBytecode } from './tree-index.js';
import { count, listedPaths, shown } from './words.js';

const ZIP_MAGIC = 'PK';

export const eggInfo: Check = {
  name: 'egg-info',
  async run(context) {
    const installed = await Promise.all(context.metadata.map((each) => ofMetadata(each, context)));
    const eggs = await Promise.all(addedEggs(context).map((path) => ofEgg(path, context)));
    return [...installed, ...eggs].flat();
  },
};

async function ofMetadata(touched: TouchedMetadata, context: CheckContext): Promise<Finding[]> {
  if (touched.kind === 'dist-info' || !touched.written) return [];
  if (touched.kind === 'egg-link') return ofLink(touched, context);
  if (!touched.isDirectory) return [];
  const claims = await context.claimsOf(touched);
  if (claims.source === 'top_level.txt') return missingModules(claims, context);
  const missing = (await context.newClaims(claims)).filter((path) => !isBytecode(path) && !context.after.has(path));
  if (missing.length === 0 || isOrphan(claims, context.after)) return [];
  const list = joinPath(touched.path, 'installed-files.txt');
  const what = `${shown(list)} lists ${count(missing.length, 'file')} that ${missing.length === 1 ? 'is' : 'are'} missing`;
  return [found('error', missing[0] ?? list, `${what}: ${listedPaths(missing)}`)];
}

/** SOURCES.txt lists the source tree, with tests and scripts that were never installed: only modules can be expected. */
function missingModules({ path, modules }: Claims, { after }: CheckContext): Finding[] {
  // Without it (Debian) top_level.txt is as the build left it.
  if (!after.has(joinPath(path, 'SOURCES.txt'))) return [];
  const missing = modules.filter((module) => {
    const name = module.slice(module.lastIndexOf('/') + 1);
    const entries = [...(after.entries(parentOf(module))?.keys() ?? [])];
    return !entries.some((entry) => entry === name || (entry.startsWith(`${name}.`) && !entry.endsWith('.egg-info')));
  });
  if (missing.length === 0) return [];
  return [found('warning', path, `${shown(path)} speaks of modules that are not there: ${listedPaths(missing)}`)];
}

async function ofLink({ path, directory }: TouchedMetadata, context: CheckContext): Promise<Finding[]> {
  const target = (await linesOf(context.after, path))?.[0];
  if (target === undefined) return [found('warning', path, `${shown(path)} is empty: it links to no project`)];
  if (!pointsNowhere(target, directory, context)) return [];
  return [found('warning', path, `${shown(path)} links to ${shown(target)}, where there is nothing`)];
}

function addedEggs({ kinds, after }: CheckContext): string[] {
  const eggs = new Set<string>();
  for (const [path, kind] of kinds) {
    if (kind === 'removed') continue;
    const end = path.search(/\.egg(?:\/|$)/);
    if (end >= 0) eggs.add(path.slice(0, end + '.egg'.length));
  }
  return [...eggs].filter((path) => after.has(path));
}

async function ofEgg(path: string, { after }: CheckContext): Promise<Finding[]> {
  if (after.entries(path) === null) {
    const content = await after.read(path);
    if (content === null || content.toString('latin1', 0, ZIP_MAGIC.length) === ZIP_MAGIC) return [];
    return [found('error', path, `${shown(path)} is no zip file`)];
  }
  const file = joinPath(path, 'EGG-INFO/PKG-INFO');
  return after.has(file) ? [] : [found('error', file, `${shown(path)} has no EGG-INFO/PKG-INFO`)];
}

function found(severity: Finding['severity'], path: string, message: string): Finding {
  return { severity, check: 'egg-info', path, message };
}
