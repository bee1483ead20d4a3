/**
 * All transactions of a mount: begins them, decides their end, and sees to it that nobody waits for ever.
 *
 * Invariants: a root process has at most one open transaction; a transaction that is in this table is known to the
 * engine and has a directory in the store; whatever goes wrong at the end of one, its barrier is released.
 * Called by daemon/server (events of the engine, requests of the control socket).
 */
import { randomBytes } from 'node:crypto';
import { SiteswapError, describe, systemCode } from '../util/errors.js';
import type { Clock } from '../util/clock.js';
import { debugFor } from '../util/debug.js';
import { BARRIER_MS, QUIET_MS, QUIET_POLL_MS } from '../util/limits.js';
import type { Store } from '../store/store.js';
import { CommitQueue } from './commit-queue.js';
import {
  examine,
  isRefused,
  publish,
  type CommitOutcome,
  type CommitStep,
  type Verdict,
  type Verify,
} from './commit.js';
import type { EnginePort, MemberRefusal } from './engine-port.js';
import { KeptNotes } from './kept-notes.js';
import { conflictHint, conflictReason, refusalHint, refusalLines, refusedReason } from './messages.js';
import { Slots } from './slots.js';
import { describeTransaction, infoFile, type CommitWhen, type Transaction } from './transaction.js';

const debug = debugFor('txn');

export interface TransactionsOptions {
  store: Store;
  engine: EnginePort;
  /** Where it is mounted: messages say what to type. */
  directory: string;
  verify: Verify;
  /** Verifications that may run at once. */
  verifiers: number;
  sync: () => Promise<void>;
  clock: Clock;
  mode: 'auto' | 'manual';
  /** A number for a transaction; never the same twice. */
  nextId: () => Promise<number>;
  log: (text: string) => void;
  /** Writes to the installer's terminal, if it has one. */
  tell: (transaction: Transaction, lines: readonly string[]) => void;
}

export interface Beginning {
  pid: number;
  uid: number;
  gid: number;
  command: readonly string[];
  terminal: string | null;
  when: CommitWhen;
}

export interface CommitResult {
  generation: number;
  /** False when the transaction had changed nothing. */
  changed: boolean;
  /** What verification found and let pass. */
  warnings: string[];
}

export interface CommitOptions {
  /** Take it whatever verification says, and let it win against commits that came before it. */
  force?: boolean;
  /** Test commands beside the mount's own. */
  commands?: readonly string[];
  /** `detail`: the check that begins. */
  onStep?: (step: CommitStep, transaction: number, detail?: string) => void;
}

export class Transactions {
  readonly #table = new Map<number, Transaction>();
  /** By root process: begun or beginning, so that two writers of one installer share one. */
  readonly #byRoot = new Map<number, Promise<Transaction>>();
  readonly #commits = new Map<number, Promise<CommitResult>>();
  #verifying = new AbortController();
  /** Of what was kept. */
  readonly #unreadable: string[] = [];
  readonly #verifiers: Slots;
  readonly #queue = new CommitQueue();
  readonly #notes: KeptNotes;
  readonly #watchers = new Set<() => void>();

  constructor(private readonly options: TransactionsOptions) {
    this.#verifiers = new Slots(options.verifiers);
    this.#notes = new KeptNotes(options);
  }

  list(): Transaction[] {
    return [...this.#table.values()];
  }

  /** The open transaction of this root process, if there is one. */
  begin(beginning: Beginning): Promise<Transaction> {
    const known = this.#byRoot.get(beginning.pid);
    if (known) return known;
    const begun = this.#begin(beginning);
    this.#byRoot.set(beginning.pid, begun);
    begun.catch(() => this.#byRoot.delete(beginning.pid)).finally(() => this.#changed());
    return begun;
  }

  hasRoot(pid: number): boolean {
    return this.#byRoot.has(pid);
  }

  async #begin(beginning: Beginning): Promise<Transaction> {
    const { store, engine, nextId } = this.options;
    const transaction: Transaction = {
      ...beginning,
      id: await nextId(),
      base: store.head,
      token: beginning.when === 'explicit' ? randomBytes(16).toString('hex') : null,
      state: 'open',
      step: null,
      reason: null,
      rootGone: false,
    };
    const directory = await store.createTransaction(infoFile(transaction));
    try {
      engine.beginTransaction({
        id: transaction.id,
        directory,
        rootPid: transaction.pid,
        token: transaction.token,
      });
    } catch (error) {
      await store.removeTransaction(transaction.id);
      throw error;
    }
    // A pinned process's installer builds on what that process sees.
    transaction.base = engine.transactionInfo(transaction.id).base;
    this.#table.set(transaction.id, transaction);
    this.options.log(`${describeTransaction(transaction)} begins`);
    if (transaction.when === 'exit-or-quiet') this.#watchQuiet(transaction);
    return transaction;
  }

  /** Brings back what a former server left refused or staged. */
  async restore(): Promise<void> {
    const { store, engine, log } = this.options;
    for (const info of await store.keptTransactions()) {
      if (info.state === 'open') continue;
      const directory = store.layout.transaction(info.id);
      try {
        engine.restoreTransaction({ id: info.id, directory });
      } catch (error) {
        // What is committed does not need it.
        const problem = `transaction ${info.id} was kept and can't be read (${describe(error)}): delete ${directory} to be rid of it`;
        this.#unreadable.push(problem);
        log(problem);
        continue;
      }
      const { id, base, command, pid, uid, gid, state, reason } = info;
      const past = { when: 'explicit', token: null, terminal: null, step: null, rootGone: true } as const;
      this.#table.set(id, { id, base, command, pid, uid, gid, state, reason, ...past });
    }
  }

  /** `exitCode` and `signal` are both null when nobody could tell: then verification decides alone. */
  rootExited(id: number, exitCode: number | null, signal: number | null): void {
    const transaction = this.#table.get(id);
    if (!transaction) return;
    debug('root of %d exited: code %o signal %o', id, exitCode, signal);
    transaction.rootGone = true;
    this.#forgetRoot(transaction);
    this.#boundBarrier(transaction);
    if (transaction.state !== 'open') return;
    if (transaction.when === 'explicit') {
      this.#abortAfter(transaction, 'its process ended without `commit`');
    } else if (signal !== null) {
      this.#abortAfter(transaction, `it was killed by signal ${signal}`);
    } else if (exitCode !== null && exitCode !== 0) {
      this.#abortAfter(transaction, `it exited with ${exitCode}`);
    } else {
      this.#end(transaction);
    }
  }

  /** New readers wait from the root's exit until the decision, but not for ever. */
  #boundBarrier(transaction: Transaction): void {
    this.options.clock.after(BARRIER_MS, () => {
      if (!this.#table.has(transaction.id) || transaction.state === 'refused') return;
      this.options.log(`${describeTransaction(transaction)}: readers have waited long enough`);
      this.options.engine.releaseBarrier(transaction.id);
    });
  }

  #abortAfter(transaction: Transaction, why: string): void {
    this.options.log(`${describeTransaction(transaction)} is dropped: ${why}`);
    this.#inBackground(this.#drop(transaction, refusalOf(transaction)));
  }

  /** It has ended well: commit it, or stage it when commits are manual. */
  #end(transaction: Transaction): void {
    this.#inBackground(this.options.mode === 'auto' ? this.commit(transaction.id) : this.#stage(transaction));
  }

  #inBackground(work: Promise<unknown>): void {
    work.catch((error: unknown) => {
      // What a user can act on was told when it happened.
      if (!(error instanceof SiteswapError)) this.options.log(`error: ${describe(error)}`);
    });
  }

  #watchQuiet(transaction: Transaction): void {
    this.options.clock.after(QUIET_POLL_MS, () => {
      if (transaction.state !== 'open' || !this.#table.has(transaction.id)) return;
      const { quietMs, state } = this.options.engine.transactionInfo(transaction.id);
      if (state === 'open' && quietMs >= QUIET_MS) this.#end(transaction);
      else this.#watchQuiet(transaction);
    });
  }

  /** Rejects with COMMIT_REFUSED or COMMIT_CONFLICT; the transaction is kept then. */
  commit(id: number, options: CommitOptions = {}): Promise<CommitResult> {
    const running = this.#commits.get(id);
    if (running) return running;
    const transaction = this.#get(id);
    transaction.state = 'committing';
    this.#changed();
    const result = this.#commit(transaction, options);
    this.#commits.set(id, result);
    const settled = (): void => {
      this.#commits.delete(id);
      this.#changed();
    };
    result.then(settled, settled);
    return result;
  }

  async #commit(transaction: Transaction, options: CommitOptions): Promise<CommitResult> {
    const { store, log } = this.options;
    let outcome: CommitOutcome;
    try {
      outcome = await this.#outcome(transaction, options);
    } catch (error) {
      await this.#refuse(transaction, describe(error));
      throw error;
    } finally {
      transaction.step = null;
    }
    switch (outcome.kind) {
      case 'unchanged':
        await this.#drop(transaction);
        return { generation: store.head, changed: false, warnings: [] };
      case 'committed': {
        this.#forget(transaction);
        const { generation, warnings } = outcome;
        const text = `${describeTransaction(transaction)} is generation ${generation}`;
        for (const warning of warnings) log(`${describeTransaction(transaction)}: warning: ${warning}`);
        log(text);
        if (warnings.length > 0) {
          this.options.tell(transaction, [`${text}, with warnings:`, ...warnings.map((warning) => `  ${warning}`)]);
        }
        return { generation, changed: true, warnings };
      }
      case 'refused': {
        const reason = refusedReason(outcome.findings);
        await this.#refuse(transaction, reason);
        throw new SiteswapError(
          'COMMIT_REFUSED',
          `${describeTransaction(transaction)} is not committed: ${reason}`,
          refusalHint(transaction.id, this.options.directory),
        );
      }
      case 'conflict': {
        const reason = conflictReason(transaction.command, outcome);
        await this.#refuse(transaction, reason);
        throw new SiteswapError(
          'COMMIT_CONFLICT',
          `${describeTransaction(transaction)} is not committed: ${reason}`,
          conflictHint(transaction.id, this.options.directory),
        );
      }
    }
  }

  /** Verifies without holding up other commits; what changes the store is one at a time. */
  async #outcome(transaction: Transaction, options: CommitOptions): Promise<CommitOutcome> {
    const { store, engine, sync, clock } = this.options;
    const { force = false, commands = [] } = options;
    const onStep = (step: CommitStep, detail?: string): void => {
      debug('%d: %s %s', transaction.id, step, detail ?? '');
      transaction.step = detail === undefined ? step : `${step} ${detail}`;
      options.onStep?.(step, transaction.id, detail);
    };
    const { verify } = this.options;
    // One that was kept may be being noted as that, in the directory that goes with the commit.
    await this.#notes.idle();
    const { signal } = this.#verifying;
    const examined = await this.#verifiers.run(() =>
      examine(transaction, { engine, verify, onStep, force, commands, signal }),
    );
    if (examined.kind !== 'examined') return examined;
    const context = { store, engine, sync, nowMs: () => clock.nowMs(), onStep };
    return this.#queue.run(() => publish(transaction, examined, force, context));
  }

  /** Checks a transaction that is kept once more. */
  async verify(id: number, { commands = [], onStep }: Omit<CommitOptions, 'force'> = {}): Promise<Verdict> {
    const transaction = this.#get(id);
    if (transaction.state === 'open' || transaction.state === 'committing') {
      const doing = transaction.state === 'open' ? 'still open' : 'being committed';
      throw new SiteswapError('BUSY', `${describeTransaction(transaction)} is ${doing}`, 'Use `siteswap wait`.');
    }
    const changes = await this.options.engine.changes(id);
    const verdict = await this.#verifiers.run(() =>
      this.options.verify(transaction, changes, {
        force: false,
        commands,
        onCheck: (name) => onStep?.('verify', id, name),
        signal: this.#verifying.signal,
      }),
    );
    if (this.#table.get(id) !== transaction) {
      // What was looked at last was no longer its tree.
      throw new SiteswapError(
        'NO_TRANSACTION',
        `${describeTransaction(transaction)} was committed or dropped meanwhile`,
        'See `siteswap log`.',
      );
    }
    if (transaction.state === 'refused') {
      transaction.reason = isRefused(verdict.findings) ? refusedReason(verdict.findings) : transaction.reason;
      await this.#notes.write(transaction);
    }
    return verdict;
  }

  async #refuse(transaction: Transaction, reason: string): Promise<void> {
    const { log, tell, directory } = this.options;
    const who = describeTransaction(transaction);
    log(`${who} is not committed: ${reason}`);
    tell(transaction, refusalLines(who, reason, transaction.id, directory));
    await this.#keep(transaction, 'refused', reason);
  }

  async #stage(transaction: Transaction): Promise<void> {
    transaction.state = 'committing';
    try {
      await this.options.engine.freezeTransaction(transaction.id);
    } catch (error) {
      await this.#refuse(transaction, describe(error));
      throw error;
    }
    if (this.options.engine.transactionInfo(transaction.id).mutations === 0) {
      await this.#drop(transaction);
      return;
    }
    this.options.log(`${describeTransaction(transaction)} waits for \`siteswap commit\``);
    return this.#keep(transaction, 'staged', null);
  }

  async #keep(transaction: Transaction, state: 'refused' | 'staged', reason: string | null): Promise<void> {
    const { engine, store } = this.options;
    await this.#notes.write(transaction, { state, reason });
    transaction.state = state;
    transaction.reason = reason;
    engine.releaseBarrier(transaction.id);
    if (!transaction.rootGone) {
      // A shell goes on: what it does next is new work, so it must not stay a member of what is frozen.
      engine.abortTransaction(transaction.id);
      engine.restoreTransaction({ id: transaction.id, directory: store.layout.transaction(transaction.id) });
    }
    this.#forgetRoot(transaction);
    this.#changed();
  }

  async abort(id: number): Promise<void> {
    const transaction = this.#get(id);
    if (transaction.state === 'committing') {
      throw new SiteswapError('BUSY', `${describeTransaction(transaction)} is being committed`, 'Use `siteswap wait`.');
    }
    this.options.log(`${describeTransaction(transaction)} is aborted`);
    await this.#drop(transaction, refusalOf(transaction));
  }

  /** Gives those of its processes that still run and may change nothing any more. */
  async #drop(transaction: Transaction, refusal?: MemberRefusal): Promise<number[]> {
    // From here on nobody may choose it; its files go when the engine has let go of them.
    this.#forget(transaction);
    const refused = this.options.engine.abortTransaction(transaction.id, refusal);
    await this.#notes.idle();
    await this.options.store.removeTransaction(transaction.id);
    return refused;
  }

  /** Resolves when no installer runs and no commit is pending; explicit transactions may be open. */
  async settled(timeoutMs?: number): Promise<void> {
    await this.#until(() => !this.list().some((t) => isPending(t)) && this.#beginningCount() === 0, timeoutMs);
  }

  /** Waits until nothing is being committed any more, and gives those that are still open. */
  async stillOpen(timeoutMs: number): Promise<Transaction[]> {
    const busy = (t: Transaction): boolean => {
      if (t.state !== 'open') return t.state === 'committing';
      return t.when === 'exit-or-quiet' || this.options.engine.transactionInfo(t.id).state === 'ended';
    };
    await this.#until(() => !this.list().some(busy), timeoutMs).catch(() => undefined);
    return this.list().filter((t) => t.state === 'open' || t.state === 'committing');
  }

  /**
   * Gives the processes that were at work and still run: they may change nothing any more. What is being verified is kept:
   * that may take as long as the user's tests do.
   */
  async abortOpen(): Promise<number[]> {
    this.#verifying.abort();
    this.#verifying = new AbortController();
    await Promise.allSettled(this.#commits.values());
    const open = this.list().filter((transaction) => transaction.state === 'open');
    const refused = await Promise.all(open.map((transaction) => this.#drop(transaction, refusalOf(transaction))));
    return refused.flat();
  }

  /** Before the end of the mount: sees to it that the next one knows what is kept. A sentence for each that it won't. */
  saveKept(): Promise<string[]> {
    return this.#notes.save();
  }

  /** Short sentences about what is wrong. */
  problems(): string[] {
    return [...this.#unreadable, ...this.#notes.problems()];
  }

  #get(id: number): Transaction {
    const transaction = this.#table.get(id);
    if (transaction) return transaction;
    throw new SiteswapError('NO_TRANSACTION', `there is no transaction ${id}`, 'See `siteswap status`.');
  }

  #beginningCount(): number {
    return [...this.#byRoot.keys()].filter((pid) => !this.list().some((t) => t.pid === pid)).length;
  }

  #forgetRoot(transaction: Transaction): void {
    const { pid, id } = transaction;
    void this.#byRoot.get(pid)?.then((known) => {
      if (known.id === id) this.#byRoot.delete(pid);
    });
  }

  #forget(transaction: Transaction): void {
    this.#table.delete(transaction.id);
    this.#notes.forget(transaction);
    this.#forgetRoot(transaction);
    this.#changed();
  }

  #changed(): void {
    for (const check of this.#watchers) check();
  }

  #until(condition: () => boolean, timeoutMs: number | undefined): Promise<void> {
    if (condition()) return Promise.resolve();
    return new Promise<void>((resolve, reject) => {
      const finish = (done: () => void): void => {
        this.#watchers.delete(check);
        cancel?.();
        done();
      };
      const check = (): void => {
        if (condition()) finish(resolve);
      };
      const late = (): void =>
        finish(() => reject(new SiteswapError('TIMED_OUT', 'a commit is still pending', 'See `siteswap status`.')));
      const cancel = timeoutMs === undefined ? undefined : this.options.clock.after(timeoutMs, late);
      this.#watchers.add(check);
    });
  }
}

function isPending(transaction: Transaction): boolean {
  return transaction.state === 'committing' || (transaction.state === 'open' && transaction.when !== 'explicit');
}

/**
 * Who worked in a transaction that is dropped may be half-way: what is still to come must not become a commit of its
 * own. But a shell that began one explicitly goes on, and so does, after a while, a program that changes things now and
 * then.
 */
function refusalOf({ when, rootGone }: Transaction): MemberRefusal {
  const quietMs = when === 'exit-or-quiet' && !rootGone ? QUIET_MS : null;
  return { exceptRoot: when === 'explicit', quietMs };
}

/** An engine that finds the root process gone says so with this code. */
export function isRootGone(error: unknown): boolean {
  return systemCode(error) === 'ESRCH';
}
