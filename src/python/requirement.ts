/**
 * What a distribution needs: `Requires-Dist` lines, and the `requires.txt` of an egg-info. Pure.
 * https://packaging.python.org/specifications/dependency-specifiers/ (PEP 508)
 */
import { normalizeName } from './dist-info.js';
import { parseMarker, type Marker } from './markers.js';
import { parseSpecifiers, type Specifier } from './version.js';

export interface Requirement {
  /** As written. */
  text: string;
  /** Normalised. */
  name: string;
  /** As written. */
  project: string;
  /** Normalised. */
  extras: readonly string[];
  /** Empty for a URL: every version will do. */
  specifiers: readonly Specifier[];
  marker: Marker | null;
}

const REQUIREMENT =
  /^\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[([^\]]*)\])?\s*(?:@\s*(\S+)(?:\s+;(.*))?|([^;@]*)(?:;(.*))?)$/s;

/** Null when malformed. */
export function parseRequirement(text: string): Requirement | null {
  // One blank for each run of them: the pattern would try every way to share them out.
  const match = REQUIREMENT.exec(text.replace(/\s+/g, ' '));
  if (!match) return null;
  const [, project = '', extras = '', url, urlMarker, versions = '', versionMarker] = match;
  const markerText = urlMarker ?? versionMarker;
  const marker = markerText === undefined ? null : parseMarker(markerText);
  const specifiers = url === undefined ? parseSpecifiers(versions) : [];
  if (specifiers === null || (markerText !== undefined && marker === null)) return null;
  return {
    text: text.trim(),
    name: normalizeName(project),
    project,
    extras: extras
      .split(',')
      .map((extra) => normalizeName(extra.trim()))
      .filter(Boolean),
    specifiers,
    marker,
  };
}

/** `requires.txt` as `Requires-Dist` would say it: a section `[extra:marker]` becomes a marker of each line. */
export function requiresOfEggInfo(text: string): string[] {
  const requires: string[] = [];
  let condition = '';
  for (const line of text.split(/\r?\n/).map((each) => each.trim())) {
    const section = /^\[(.*)\]$/.exec(line);
    if (section) {
      const [extra = '', ...marker] = (section[1] ?? '').split(':');
      const parts = [marker.length > 0 ? `(${marker.join(':')})` : '', extra === '' ? '' : `extra == "${extra}"`];
      condition = parts.filter(Boolean).join(' and ');
    } else if (line !== '' && !line.startsWith('#')) {
      requires.push(condition === '' ? line : `${line} ; ${condition}`);
    }
  }
  return requires;
}
