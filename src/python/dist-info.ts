/**
 * Names and metadata of distributions: pure parsers of directory names and of core metadata.
 * https://packaging.python.org/specifications/recording-installed-packages/ and …/core-metadata/
 */

export interface NameAndVersion {
  /** As written. Compare by `normalizeName`. */
  name: string;
  /** Empty when the directory's name has none. */
  version: string;
}

export type MetadataKind = 'dist-info' | 'egg-info' | 'egg-link';

/** PEP 503. */
export function normalizeName(name: string): string {
  return name.replace(/[-_.]+/g, '-').toLowerCase();
}

/** What a name in site-packages says: `foo_bar-1.2.dist-info`, `foo-1.2-py3.11.egg-info`, `foo.egg-link`; else null. */
export function parseMetadataName(entry: string): (NameAndVersion & { kind: MetadataKind }) | null {
  const match = /^(.+)\.(dist-info|egg-info|egg-link)$/i.exec(entry);
  if (!match) return null;
  const [, stem = '', suffix = ''] = match;
  const kind = suffix.toLowerCase() as MetadataKind;
  // pip's uninstall stash and other left-overs are no distributions.
  if (stem.startsWith('~') || stem.startsWith('-')) return null;
  if (kind === 'egg-link') return { kind, name: stem, version: '' };
  // Both parts have their hyphens escaped to `_`; in an egg-info the Python version (and the platform) may follow.
  const [name = '', version = ''] = stem.split('-');
  return { kind, name, version };
}

/** Header fields by lower-case name, in order of appearance. What follows the first empty line is the description. */
export function parseMetadata(text: string): Map<string, string[]> {
  const fields = new Map<string, string[]>();
  let last: string[] | null = null;
  for (const line of text.replace(/^\uFEFF/, '').split(/\r\n|\r|\n/)) {
    if (line === '') break;
    if (/^[ \t]/.test(line)) {
      if (last) last.push(`${last.pop() ?? ''}\n${line.trim()}`);
      continue;
    }
    const colon = line.indexOf(':');
    if (colon <= 0) continue;
    const name = line.slice(0, colon).trim().toLowerCase();
    last = fields.get(name) ?? [];
    fields.set(name, last);
    last.push(line.slice(colon + 1).trim());
  }
  return fields;
}

/** Name and version of core metadata; null unless both are there. */
export function parseNameAndVersion(text: string): NameAndVersion | null {
  const fields = parseMetadata(text);
  const name = fields.get('name')?.[0];
  const version = fields.get('version')?.[0];
  return name && version ? { name, version } : null;
}
