/**
 * Which changes are an interpreter keeping its bytecode: `__pycache__`, and `*.pyc` in it with the temporary names that
 * importlib writes to first (`x.cpython-311.pyc.140234`, then a rename).
 *
 * Pure. Programs that are no installer and do only this make no transaction.
 */

const BYTECODE = /(?:^|\/)__pycache__(?:\/[^/]+\.pyc(?:\.\d+)?)?$/;

/** A reader removes no cache: `rmdir` of one is somebody cleaning up, and that is a change to the tree. */
const OPERATIONS: ReadonlySet<string> = new Set([
  'create',
  'mkdir',
  'mknod',
  'open',
  'write',
  'setattr',
  'rename',
  'rename2',
  'unlink',
  'setxattr',
  'removexattr',
  'fallocate',
]);

export function isBytecodePath(op: string, path: Buffer): boolean {
  // Bytes that are not UTF-8 become replacement characters, which no fixed part of the pattern is.
  return OPERATIONS.has(op) && BYTECODE.test(path.toString('utf8'));
}

/** The source that a cached `.pyc` was compiled from; null when the path is no such file. */
export function sourceOfBytecode(path: string): string | null {
  const match = /^((?:.*\/)?)__pycache__\/([^/]+)\.pyc$/s.exec(path);
  if (!match) return null;
  const [, directory = '', name = ''] = match;
  // module.TAG.pyc, module.TAG.opt-N.pyc; a tag may have dots (pytest's), a module none.
  return `${directory}${name.replace(/\..*$/s, '')}.py`;
}
