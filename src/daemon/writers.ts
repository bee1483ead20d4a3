/**
 * Answers the engine's question about a process that writes and is no member of a transaction: what now?
 *
 * The decision is policy/writer's; here it is carried out. The request waits in the kernel meanwhile, so every path
 * through `onWriter` ends in one `decide`. Called by the server, several at a time.
 */
import { constants } from 'node:os';
import type { Engine, EngineEvent } from '../fuse/backend.js';
import { decideWriter, type ChainProcess, type WriterDecision } from '../policy/writer.js';
import type { CommitWhen } from '../txn/transaction.js';
import type { Transactions } from '../txn/transactions.js';
import { isRootGone } from '../txn/transactions.js';
import { debugFor } from '../util/debug.js';
import { describe, systemCode } from '../util/errors.js';
import { terminalOf } from './terminal.js';

const debug = debugFor('writers');

export type WriterEvent = Extract<EngineEvent, { type: 'writer-appeared' }>;
type Begin = Extract<WriterDecision, { kind: 'begin' }>;
type Verdict = Parameters<Engine['decide']>[1];

export interface WritersOptions {
  transactions: Pick<Transactions, 'begin' | 'hasRoot'>;
  engine: Pick<Engine, 'decide'>;
  /** The writer first, then its ancestors, without the server's own processes. */
  readChain: (pid: number) => readonly ChainProcess[];
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
      verdict = { errno: errnoOf(error) };
    }
    debug('%s %s by %d: %o', event.op, event.path, event.pid, verdict);
    this.options.engine.decide(event.request, verdict);
  }

  async #judge(event: WriterEvent): Promise<Verdict> {
    const { readOnly, readChain, log } = this.options;
    if (readOnly) return { errno: constants.errno.EROFS };
    const { pid, op, path } = event;
    const chain = pid === 0 ? [] : readChain(pid);
    const decision = decideWriter({ pid, chain, op, path });
    switch (decision.kind) {
      case 'bytecode':
        return { live: true };
      case 'refuse':
        log(`${op} of ${path.toString('utf8')} by process ${pid} is refused: ${decision.why}`);
        return { errno: decision.errno };
      case 'begin':
        await this.#beginFor(event, chain, decision);
        return { retry: true };
    }
  }

  async #beginFor(event: WriterEvent, chain: readonly ChainProcess[], decision: Begin): Promise<void> {
    // Between the question and now, another process of the same installer may have begun the transaction.
    const begun = chain.find(({ pid }) => this.options.transactions.hasRoot(pid));
    try {
      await this.#begin(event, begun?.pid ?? decision.rootPid, decision.command, decision.commitWhen);
    } catch (error) {
      const writer = chain[0];
      // The installer is gone already, and a child of it still writes: that child is on its own now.
      if (!isRootGone(error) || writer === undefined || writer.pid === decision.rootPid) throw error;
      await this.#begin(event, writer.pid, writer.argv, 'exit-or-quiet');
    }
  }

  async #begin(event: WriterEvent, pid: number, command: readonly string[], when: CommitWhen): Promise<void> {
    // The user who writes, not the one who owns the root process: sudo's child is what installs.
    const { uid, gid } = event;
    await this.options.transactions.begin({ pid, uid, gid, command, terminal: terminalOf(pid), when });
  }
}

/** What the writer can do something about: the store's disk takes nothing. */
const OF_THE_DISK = ['ENOSPC', 'EDQUOT', 'EROFS'] as const;

function errnoOf(error: unknown): number {
  const code = systemCode(error);
  return constants.errno[OF_THE_DISK.find((known) => known === code) ?? 'EIO'];
}
