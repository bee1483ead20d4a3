/**
 * Answers the engine's question about a process that writes and is no member of a transaction: what now?
 *
 * The decision is policy/writer's; here it is carried out. The request waits in the kernel meanwhile, so every path
 * through `onWriter` ends in `decide`. Called by the server, several at a time.
 */
import { constants } from 'node:os';
import type { Engine, EngineEvent } from '../fuse/backend.js';
import type { Transactions } from '../txn/transactions.js';
import { isRootGone } from '../txn/transactions.js';
import { debugFor } from '../util/debug.js';
import { describe } from '../util/errors.js';
import { decideWriter } from '../policy/writer.js';
import { processChain } from '../policy/process-info.js';
import { terminalOf } from './terminal.js';

const debug = debugFor('writers');

type WriterEvent = Extract<EngineEvent, { type: 'writer-appeared' }>;
type Verdict = Parameters<Engine['decide']>[1];

export interface WritersOptions {
  transactions: Transactions;
  engine: Pick<Engine, 'decide'>;
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
}
