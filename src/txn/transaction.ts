/** One installer's work, as the daemon sees it. Its files are the engine's. */
import { formatCommand } from '../util/format-command.js';
import type { TransactionInfoFile } from '../store/transaction-info.js';

/**
 * When it commits by itself: `exit`, when its root has exited with 0; `exit-or-quiet`, also when its members have
 * changed nothing for a while; `explicit`, never: somebody says `commit`.
 */
export type CommitWhen = 'exit' | 'exit-or-quiet' | 'explicit';

/**
 * `open` → `committing` → gone (committed, or aborted), or `refused`.
 * `open` → `staged` (ended well while commits are manual) → `committing`.
 * `refused` and `staged` survive a restart; both take `commit` and `abort`.
 */
export type State = 'open' | 'committing' | 'staged' | 'refused';

export interface Transaction {
  readonly id: number;
  /** The generation that it changes: what its root process saw when it began. */
  base: number;
  readonly command: readonly string[];
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  readonly when: CommitWhen;
  /** Processes that carry it in their environment are members too. */
  readonly token: string | null;
  /** The installer's terminal, where a refusal is told. */
  readonly terminal: string | null;
  state: State;
  /** Of its commit, with the check that is running; null when none is under way. */
  step: string | null;
  /** Why it was refused. */
  reason: string | null;
  /** Its root has exited, and nothing was decided yet. */
  rootGone: boolean;
}

export function infoFile(transaction: Transaction): TransactionInfoFile {
  const { id, base, command, pid, uid, gid, state, reason } = transaction;
  // While it is being committed, the disk keeps saying what a crash must make of it.
  const stored = state === 'committing' ? 'open' : state;
  return { id, base, command: [...command], pid, uid, gid, state: stored, reason };
}

export function describeTransaction(transaction: Transaction): string {
  const command = formatCommand(transaction.command) || `process ${transaction.pid}`;
  return `transaction ${transaction.id} (${command})`;
}
