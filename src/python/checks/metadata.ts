/** METADATA (of an egg-info: PKG-INFO) is there and can be read: an install that was cut short may lack it. */
import { isUtf8 } from 'node:buffer';
import { normalizeName, parseMetadata, parseMetadataName } from '../dist-info.js';
import { joinPath, METADATA_FILE } from '../distributions.js';
import { parseVersion } from '../version.js';
import type { Check } from './check.js';
import type { CheckContext, TouchedMetadata } from './context.js';
import type { Finding } from './input.js';
import { shown } from './words.js';

export const metadata: Check = {
  name: 'metadata',
  run: async (context) => (await Promise.all(context.metadata.map((each) => checkOne(each, context)))).flat(),
};

async function checkOne(touched: TouchedMetadata, { after }: CheckContext): Promise<Finding[]> {
  const { path, kind, isDirectory, written } = touched;
  if (kind === 'egg-link') return [];
  const file = isDirectory ? joinPath(path, METADATA_FILE[kind]) : path;
  const finding = (severity: Finding['severity'], message: string): Finding[] => [
    { severity, check: 'metadata', path: file, message },
  ];
  const bytes = await after.read(file);
  if (bytes === null) {
    // uv can link all files to its cache, which lies outside of the tree.
    if (after.typeOf(file) === 'symlink') return [];
    // What an uninstall leaves behind is for `orphan-metadata`.
    const left = !written && !after.has(joinPath(path, 'RECORD'));
    return left ? [] : finding('error', `${shown(path)} has no ${METADATA_FILE[kind]}`);
  }
  const fields = parseMetadata(bytes.toString('utf8'));
  const lacks = ['Name', 'Version'].filter((field) => !fields.get(field.toLowerCase())?.[0]);
  if (lacks.length > 0) return finding('error', `${shown(file)} has no ${lacks.join(' and no ')}`);
  const [name = '', version = ''] = [fields.get('name')?.[0], fields.get('version')?.[0]];
  const named = parseMetadataName(path.slice(path.lastIndexOf('/') + 1));
  const smells: string[] = [];
  if (!fields.has('metadata-version')) smells.push('has no Metadata-Version');
  if (!isUtf8(bytes)) smells.push('is not UTF-8');
  if (!parseVersion(version)) smells.push(`has the version ${JSON.stringify(version)}, which is none`);
  if (named && normalizeName(name) !== normalizeName(named.name)) {
    smells.push(`has another name than its directory: ${JSON.stringify(name)}`);
  }
  return smells.flatMap((smell) => finding('warning', `${shown(file)} ${smell}`));
}
