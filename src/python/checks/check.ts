/**
 * A check: looks at what a transaction touched, never at what was there before (old defects are not its fault), and says
 * what it found. An install that is demonstrably not what its installer recorded is an error; what only smells, a warning.
 * All are listed in index.ts.
 */
import type { CheckContext } from './context.js';
import type { Finding } from './input.js';

export type { ChangedPath, CheckInput, FileDigest, Finding } from './input.js';

export type CheckName =
  | 'metadata'
  | 'duplicate-metadata'
  | 'orphan-metadata'
  | 'record'
  | 'conflicts'
  | 'unowned'
  | 'egg-info'
  | 'pth'
  | 'cruft'
  | 'dependencies';

export interface Check {
  readonly name: CheckName;
  run(context: CheckContext): Promise<Finding[]>;
}
