/**
 * What the server and a verifier say to each other over the verifier's descriptor `CHANNEL_FD`, as frames. The server sends
 * the job when the verifier has told that it is there; then the verifier asks, and is answered one question at a time, tells, and ends with `done` or `failed`.
 */
import type { ChangedPath, Finding } from '../python/checks/check.js';
import type { PackageDifference, TreeEntry } from '../python/distributions.js';
import type { View } from './imports.js';
import type { InterpreterFacts } from './interpreter.js';

export const CHANNEL_FD = 3;

/** `record`: the checks of files. `import`: and of imports. `deep`: and of what depends on what changed. */
export type Level = 'none' | 'record' | 'import' | 'deep';

export interface Limits {
  importMs: number;
  commandMs: number;
  /** Of one import or command. */
  memoryBytes: number;
  processes: number;
}

export interface Job {
  /** The verifier sees the transaction's tree there. */
  mountpoint: string;
  level: Level;
  /** Names of checks that are switched off. */
  skip: readonly string[];
  /** The user's own tests, for /bin/sh. */
  commands: readonly string[];
  limits: Limits;
  /** The installer's: nothing of what was installed is run with more rights. */
  owner: { uid: number; gid: number };
  changes: readonly ChangedPath[];
}

/** Questions about the tree before, and the one request: that a process shall see it. */
export type Question =
  { ask: 'list'; path: string } | { ask: 'read'; path: string } | { ask: 'observe'; pid: number; view: View };
export type Answer =
  { list: TreeEntry[] | null } | { read: Uint8Array | null } | { observed: true } | { failed: string };

export interface Report {
  findings: Finding[];
  packages: PackageDifference[];
  checks: { name: string; durationMs: number }[];
  /** Null when none was found. */
  interpreter: InterpreterFacts | null;
}

export type FromVerifier =
  | Question
  | { tell: 'ready' }
  | { tell: 'check'; name: string }
  | { tell: 'done'; report: Report }
  | { tell: 'failed'; reason: string };
