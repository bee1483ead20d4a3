/** What checks are given and what they say. Paths are as in TreeReader: latin1, relative to the tree's root. */
import type { TreeReader } from '../distributions.js';

export interface Finding {
  /** An error refuses the commit, a warning is told. */
  severity: 'error' | 'warning';
  /** The check's name. */
  check: string;
  path: string;
  /** One line, with the path. */
  message: string;
}

export interface ChangedPath {
  path: string;
  /** `attributes`: the bytes are the same. Of a directory that was added or removed, all that is in it is listed too. */
  kind: 'added' | 'removed' | 'modified' | 'attributes';
}

export interface FileDigest {
  digest: Buffer;
  sizeBytes: number;
}

export interface CheckInput {
  before: TreeReader;
  after: TreeReader;
  changes: readonly ChangedPath[];
  /** Digest and size of a file of `after`; null when there is no such regular file. Called with concurrency. */
  hash(path: string, algorithm: string): Promise<FileDigest | null>;
  /** PEP 508 marker variables of the environment's interpreter; null when none was found. */
  markers: Readonly<Record<string, string>> | null;
  /**
   * Whether there is something at a path outside of the tree: absolute, or relative to the tree's root (`../…`).
   * Without it such paths are not checked.
   */
  existsOutside?: (path: string) => boolean;
  /** Distributions that the interpreter finds in directories outside of the tree (system site-packages). */
  installedElsewhere?: readonly { name: string; version: string }[];
}
