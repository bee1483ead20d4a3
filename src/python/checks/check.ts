/**
 * A check: looks at what a transaction touched, never at what was there before (old defects are not its fault), and says
 * what it found. An install that is demonstrably not what its installer recorded is an error; what only smells, a warning.
 * All are listed in index.ts.
 */
import type { CheckContext } from './context.js';
import type { Finding } from './input.js';

export type { ChangedPath, CheckInput, FileDigest, Finding } from './input.js';

/** In the order in which they run. */
export const CHECK_NAMES = [
  'metadata',
  'duplicate-metadata',
  'orphan-metadata',
  'dependencies',
  'conflicts',
  'unowned',
  'pth',
  'egg-info',
  'cruft',
  'record',
] as const;
export type CheckName = (typeof CHECK_NAMES)[number];

export interface Check {
  readonly name: CheckName;
  run(context: CheckContext): Promise<Finding[]>;
}
