/** How findings put paths and lists into words. */

const SHOWN = 3;

/** A path (latin1, see TreeReader) for people: as UTF-8, on one line, without what a terminal would obey. */
export function shown(path: string): string {
  return Buffer.from(path, 'latin1')
    .toString('utf8')
    .replace(/\p{Cc}/gu, '?');
}

/** `a, b, c and 4 more`. */
export function listed(items: readonly string[]): string {
  const more = items.length - SHOWN;
  return more > 0 ? `${items.slice(0, SHOWN).join(', ')} and ${more} more` : items.join(', ');
}

export function listedPaths(paths: readonly string[]): string {
  return listed(paths.map(shown));
}

/** `1 file`, `2 files`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}
