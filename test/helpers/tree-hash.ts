/**
 * A full listing of a directory tree, to be compared before and after: what differs by one byte, mode or nanosecond shows.
 *
 * Reads everything: in a test of a mount, run it in another process than the one that serves, or give it the lower.
 */
import { createHash } from 'node:crypto';
import { closeSync, lstatSync, openSync, readdirSync, readlinkSync, readSync, type BigIntStats } from 'node:fs';

export interface TreeHashOptions {
  /** Leave out, by path below the root. */
  ignore?: (path: string) => boolean;
  /** Times of directories and files count (default). */
  mtimes?: boolean;
  owners?: boolean;
  /** Inode numbers and change times count: for a tree that nobody may even have touched. */
  identity?: boolean;
}

/** Path below the root ('' the root itself; bytes as latin1) → one line that says all about it. */
export type TreeListing = Map<string, string>;

const BLOCK_BYTES = 1 << 20;
const TYPES: readonly (readonly [string, (stats: BigIntStats) => boolean])[] = [
  ['file', (stats) => stats.isFile()],
  ['directory', (stats) => stats.isDirectory()],
  ['symlink', (stats) => stats.isSymbolicLink()],
  ['fifo', (stats) => stats.isFIFO()],
  ['socket', (stats) => stats.isSocket()],
  ['character', (stats) => stats.isCharacterDevice()],
  ['block', (stats) => stats.isBlockDevice()],
];

export function listTree(root: string, options: TreeHashOptions = {}): TreeListing {
  const { ignore = () => false, mtimes = true, owners = true, identity = false } = options;
  const listing: TreeListing = new Map();
  /** Inode → the first path it was met at: names of one file are told by it, not by a number that may change. */
  const links = new Map<bigint, string>();
  const base = Buffer.from(root);

  const visit = (path: Buffer): void => {
    const shown = path.toString('latin1');
    if (ignore(shown)) return;
    const full = path.length === 0 ? base : Buffer.concat([base, Buffer.from('/'), path]);
    const stats = lstatSync(full, { bigint: true });
    const type = TYPES.find(([, is]) => is(stats))?.[0] ?? 'unknown';
    const words = [type, (stats.mode & 0o7777n).toString(8).padStart(4, '0')];
    if (owners) words.push(`${stats.uid}:${stats.gid}`);
    if (mtimes) words.push(`mtime=${stats.mtimeNs}`);
    if (identity) words.push(`ino=${stats.ino}`, `ctime=${stats.ctimeNs}`);
    if (type === 'file') words.push(`size=${stats.size}`, `sha256=${hashFile(full)}`);
    if (type === 'symlink') words.push(`target=${JSON.stringify(readlinkSync(full, 'buffer').toString('latin1'))}`);
    if (type === 'character' || type === 'block') words.push(`rdev=${stats.rdev}`);
    if (type !== 'directory' && stats.nlink > 1n) {
      const first = links.get(stats.ino) ?? shown;
      links.set(stats.ino, first);
      words.push(`nlink=${stats.nlink}`, `same-as=${JSON.stringify(first)}`);
    }
    listing.set(shown, words.join(' '));
    if (type !== 'directory') return;
    const names = readdirSync(full, { encoding: 'buffer' }).sort((a, b) => Buffer.compare(a, b));
    for (const name of names) visit(path.length === 0 ? name : Buffer.concat([path, Buffer.from('/'), name]));
  };
  visit(Buffer.alloc(0));
  return listing;
}

/** One line a difference: `- path …` was, `+ path …` is. Empty when both are the same. */
export function diffTrees(before: TreeListing, after: TreeListing): string[] {
  const lines: string[] = [];
  for (const path of [...new Set([...before.keys(), ...after.keys()])].sort()) {
    const was = before.get(path);
    const is = after.get(path);
    if (was === is) continue;
    if (was !== undefined) lines.push(`- ${path || '.'} ${was}`);
    if (is !== undefined) lines.push(`+ ${path || '.'} ${is}`);
  }
  return lines;
}

/** One hash of all. */
export function hashListing(listing: TreeListing): string {
  const hash = createHash('sha256');
  for (const [path, line] of listing) hash.update(`${JSON.stringify(path)} ${line}\n`);
  return hash.digest('hex');
}

function hashFile(path: Buffer): string {
  const hash = createHash('sha256');
  const block = Buffer.alloc(BLOCK_BYTES);
  const fd = openSync(path, 'r');
  try {
    for (let got = readSync(fd, block); got > 0; got = readSync(fd, block)) hash.update(block.subarray(0, got));
  } finally {
    closeSync(fd);
  }
  return hash.digest('hex');
}
