/**
 * Errors that a user can do something about. Anything else that is thrown is a bug (exit code 1, with a stack).
 *
 * `code` is stable: scripts and the control protocol rely on it. The table below gives each its exit code.
 */
import { exitCode, type ExitName } from './exit-codes.js';

const EXIT_OF = {
  USAGE: 'usage',
  NO_DIRECTORY: 'noDirectory',
  ALREADY_MOUNTED: 'alreadyMounted',
  NO_RIGHTS: 'noRights',
  HOST_REQUIREMENT: 'hostRequirement',
  ADDON_MISSING: 'hostRequirement',
  NOT_MOUNTED: 'notMounted',
  STORE_VERSION: 'storeVersion',
  STORE_DAMAGED: 'storeDamaged',
  STORE_IN_USE: 'storeInUse',
  LOWER_CHANGED: 'lowerChanged',
  BUSY: 'busy',
  NO_TRANSACTION: 'noTransaction',
  COMMIT_REFUSED: 'commitRefused',
  COMMIT_CONFLICT: 'commitConflict',
  SERVER_SILENT: 'serverSilent',
  TIMED_OUT: 'timedOut',
  ACCESS_DENIED: 'accessDenied',
  STORE_IO: 'storeIo',
  BAD_REQUEST: 'usage',
  INTERNAL: 'internal',
} as const satisfies Record<string, ExitName>;

export type ErrorCode = keyof typeof EXIT_OF;

/** What crosses the control socket and the keeper's status pipe. */
export interface ErrorData {
  code: string;
  message: string;
  hint?: string | undefined;
  exitCode: number;
}

export class SiteswapError extends Error {
  readonly code: string;
  /** What to do about it, as one sentence. */
  readonly hint: string | undefined;
  readonly exitCode: number;

  constructor(code: ErrorCode, message: string, hint?: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'SiteswapError';
    this.code = code;
    this.hint = hint;
    this.exitCode = exitCode(EXIT_OF[code]);
  }

  toData(): ErrorData {
    return { code: this.code, message: this.message, exitCode: this.exitCode, ...(this.hint && { hint: this.hint }) };
  }

  /** An error told by another process: its code is kept even when this version does not know it. */
  static fromData(data: ErrorData): SiteswapError {
    const error = new SiteswapError('INTERNAL', data.message, data.hint);
    return Object.assign(error, { code: data.code, exitCode: data.exitCode });
  }
}

/** Anything that was thrown, as data for the other side of a socket. */
export function errorData(error: unknown): ErrorData {
  if (error instanceof SiteswapError) return error.toData();
  return { code: 'INTERNAL', message: describe(error), exitCode: exitCode('internal') };
}

export function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The `code` of a system error ('ENOENT', …), or undefined. */
export function systemCode(error: unknown): string | undefined {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return typeof code === 'string' ? code : undefined;
}

const DISK_TROUBLE = new Set(['ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'EFBIG']);

/** System errors of the disk become STORE_IO; everything else is returned as it is. */
export function asStoreError(error: unknown, doing: string): unknown {
  const code = systemCode(error);
  if (code === undefined || !DISK_TROUBLE.has(code)) return error;
  return new SiteswapError(
    'STORE_IO',
    `${doing}: ${describe(error)}`,
    'Free space on the disk of the store, or use another one with --store.',
    { cause: error },
  );
}
