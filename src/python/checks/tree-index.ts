/** A tree whose directories are listed at most once each: checks ask for the same thousands of paths. */
import { posix } from 'node:path';
import { joinPath, parentOf, type TreeReader } from '../distributions.js';

export class TreeIndex implements TreeReader {
  readonly #reader: TreeReader;
  readonly #listings = new Map<string, ReadonlyMap<string, string> | null>();

  constructor(reader: TreeReader) {
    this.#reader = reader;
  }

  list(path: string): { name: string; type: string }[] | null {
    const entries = this.entries(path);
    return entries && [...entries].map(([name, type]) => ({ name, type }));
  }

  read(path: string): Promise<Buffer | null> {
    return this.#reader.read(path);
  }

  /** Name → type; null when there is no such directory. */
  entries(path: string): ReadonlyMap<string, string> | null {
    let entries = this.#listings.get(path);
    if (entries === undefined) {
      const listed = this.#reader.list(path);
      entries = listed && new Map(listed.map(({ name, type }) => [name, type]));
      this.#listings.set(path, entries);
    }
    return entries;
  }

  /** `symlink` also for what may lie beyond one; null when there is nothing. */
  typeOf(path: string): string | null {
    if (path === '') return 'directory';
    const parent = parentOf(path);
    const entries = this.entries(parent);
    if (entries) return entries.get(posix.basename(path)) ?? null;
    return parent !== '' && this.typeOf(parent) === 'symlink' ? 'symlink' : null;
  }

  has(path: string): boolean {
    return this.typeOf(path) !== null;
  }

  filesBelow(path: string): string[] {
    const entries = this.entries(path);
    if (!entries) return this.has(path) ? [path] : [];
    return [...entries].flatMap(([name, type]) => {
      const below = joinPath(path, name);
      return type === 'directory' ? this.filesBelow(below) : [below];
    });
  }
}

export function isBelow(path: string, directory: string): boolean {
  return directory === '' || path.startsWith(`${directory}/`);
}

export function isBytecode(path: string): boolean {
  return path.endsWith('.pyc') || path.endsWith('.pyo');
}
