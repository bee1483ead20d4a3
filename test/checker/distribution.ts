/**
 * The distributions that the checker installs: every file says which version it is of, and fits no other version.
 * observe.py knows what is in here.
 */
import { buildWheel } from '../helpers/wheel.js';
import { serialOf } from './history.js';

const PAGE_BYTES = 4096;
const DATA_FILES = 6;
export const ENTRY_POINT_GROUP = 'siteswap.checker';

export interface Distribution {
  /** Lower case and `_` only: the same in every place that names it. */
  name: string;
  /** Of lib.bin, which stands for a shared library. */
  pages: number;
}

/** Gives the wheel's path. */
export function buildDistribution({ name, pages }: Distribution, version: string, dir: string): string {
  const serial = serialOf(version);
  const stamp = `stamp: ${name}/${version}\n`;
  const module = (lines: string[]): string => [`# ${stamp}VERSION = '${version}'`, ...lines, ''].join('\n');
  // The name that its other modules need is in this version's base only.
  const needs = `from ${name} import NEEDED_${serial}`;
  const files: Record<string, string | Buffer> = {
    [`${name}/__init__.py`]: module([`NEEDED_${serial} = True`]),
    [`${name}/sub.py`]: module([needs]),
    [`${name}/lazy/__init__.py`]: module([needs]),
    [`${name}/lazy/deep.py`]: module([needs, `from ${name}.sub import NEEDED_${serial}`]),
    [`${name}/plugin.py`]: module([needs, 'def main():', `    from ${name} import sub`, '    return sub.VERSION']),
    [`${name}/serial`]: 's'.repeat(serial),
    [`${name}/mark-${version}`]: stamp,
    [`${name}/lib.bin`]: bigFile(name, version, pages),
    [`${name}-${version}.dist-info/entry_points.txt`]: `[${ENTRY_POINT_GROUP}]\n${name}@${version} = ${name}.plugin:main\n`,
  };
  // Of another length in each version: sizes tell versions apart too.
  const padding = '#'.repeat(serial % 50) + '\n';
  for (let n = 0; n < DATA_FILES; n++) files[`${name}/data/part${n}/table.txt`] = stamp + padding.repeat(20);
  return buildWheel({ name, version, files, dir });
}

/** Every page names the file's version and its own place. */
function bigFile(name: string, version: string, pages: number): Buffer {
  const file = Buffer.alloc(pages * PAGE_BYTES, '.');
  for (let page = 0; page < pages; page++) {
    file.write(`${name}/${version}/${pages}#${page}#`, page * PAGE_BYTES, 'latin1');
  }
  return file;
}
