/**
 * Answers the engine's question about a process that writes and is no member of a transaction: what now?
 *
 * The decision is the policy's; here it is carried out. The request waits in the kernel meanwhile, so every path
 * through `onWriter` ends in one `decide`. Called by the server, several at a time.
 */
import { constants } from 'node:os';
import type { Engine, EngineEvent } from '../fuse/backend.js';
import type { CommitWhen } from '../txn/transaction.js';
import type { Transactions } from '../txn/transactions.js';
import { isRootGone } from '../txn/transactions.js';
import { debugFor } from '../util/debug.js';
import { describe } from '../util/errors.js';
import { terminalOf } from './terminal.js';

const debug = debugFor('writers');

export type WriterEvent = Extract<EngineEvent, { type: 'writer-appeared' }>;
type Verdict = Parameters<Engine['decide']>[1];

export interface WriterRoot {
  pid: number;
  command: readonly string[];
}

export type WriterDecision =
  | { kind: 'transaction'; root: WriterRoot; when: Exclude<CommitWhen, 'explicit'> }
  /** `errno`: positive. */
  | { kind: 'refuse'; errno: number };

export interface WriterPolicy {
  /** The writer itself first, then its ancestors. Empty when it can't be seen. */
  chain: (pid: number) => readonly WriterRoot[];
  decide: (event: WriterEvent, chain: readonly WriterRoot[]) => WriterDecision;
}

export interface WritersOptions {
  transactions: Pick<Transactions, 'begin' | 'hasRoot'>;
  engine: Pick<Engine, 'decide'>;
  policy: WriterPolicy;
  /** An older generation is served: nobody may write. */
  readOnly: boolean;
  log: (text: string) => void;
}

export class Writers {
  constructor(private readonly options: WritersOptions) {}

  async onWriter(event: WriterEvent): Promise<void> {
    let verdict: Verdict;
    try {
      verdict = await this.#judge(event);
    } catch (error) {
      this.options.log(`error: ${event.op} by process ${event.pid}: ${describe(error)}`);
      verdict = { errno: constants.errno.EIO };
    }
    debug('%s %s by %d: %o', event.op, event.path, event.pid, verdict);
    this.options.engine.decide(event.request, verdict);
  }

  async #judge(event: WriterEvent): Promise<Verdict> {
    const { policy, transactions, readOnly } = this.options;
    if (readOnly || event.pid === 0) return { errno: constants.errno.EROFS };
    const chain = policy.chain(event.pid);
    // Between the question and now, another process of the same installer may have begun the transaction.
    const begun = chain.find(({ pid }) => transactions.hasRoot(pid));
    const decision = policy.decide(event, chain);
    if (decision.kind === 'refuse') return { errno: decision.errno };
    const root = begun ?? decision.root;
    try {
      await this.#begin(event, root, decision.when);
    } catch (error) {
      const writer = chain[0];
      // The installer is gone already, and a child of it still writes: that child is on its own now.
      if (!isRootGone(error) || writer === undefined || writer.pid === root.pid) throw error;
      await this.#begin(event, writer, 'exit-or-quiet');
    }
    return { retry: true };
  }

  async #begin(event: WriterEvent, root: WriterRoot, when: CommitWhen): Promise<void> {
    const { pid, command } = root;
    // The user who writes, not the one who owns the root process: sudo's child is what installs.
    const { uid, gid } = event;
    await this.options.transactions.begin({ pid, uid, gid, command, terminal: terminalOf(pid), when });
  }
}
