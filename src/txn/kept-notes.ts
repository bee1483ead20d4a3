/**
 * What the disk knows (`info.json`) of transactions that are refused or staged. Without that the next mount would drop what
 * the user was told is kept: so what the disk does not take is tried again until it does, and once more at the unmount.
 */
import type { Store } from '../store/store.js';
import type { TransactionInfoFile } from '../store/transaction-info.js';
import type { Clock } from '../util/clock.js';
import { describe } from '../util/errors.js';
import { KEEP_RETRY_MS } from '../util/limits.js';
import { CommitQueue } from './commit-queue.js';
import { describeTransaction, infoFile, type Transaction } from './transaction.js';

export interface KeptNotesOptions {
  store: Pick<Store, 'updateTransaction'>;
  /** Makes everything written to the store's filesystem durable. */
  sync: () => Promise<void>;
  clock: Clock;
  log: (text: string) => void;
}

export class KeptNotes {
  /** Not on the disk, and why. */
  readonly #missing = new Map<Transaction, string>();
  /** One write at a time, so that the last one counts. */
  readonly #writes = new CommitQueue();
  #retries = false;

  constructor(private readonly options: KeptNotesOptions) {}

  /** Never rejects. `change`: what it is about to become. */
  write(transaction: Transaction, change: Partial<Pick<Transaction, 'state' | 'reason'>> = {}): Promise<void> {
    const info = infoFile({ ...transaction, ...change });
    return this.#writes.run(async () => {
      try {
        await this.#store(info);
        this.#missing.delete(transaction);
      } catch (error) {
        this.#missing.set(transaction, describe(error));
        this.options.log(`${this.#problem(transaction, describe(error))}; that is tried again`);
        this.#retryLater();
      }
    });
  }

  /** It is committed or dropped; before its directory goes, `idle`. */
  forget(transaction: Transaction): void {
    this.#missing.delete(transaction);
  }

  /** Resolves when nothing is being written. */
  idle(): Promise<void> {
    return this.#writes.run(() => Promise.resolve());
  }

  /** Tries once more what is missing, and gives what is missing then. */
  async save(): Promise<string[]> {
    await this.#writes.run(() => this.#writeMissing());
    return this.problems();
  }

  /** A sentence for each that would be lost now. */
  problems(): string[] {
    return [...this.#missing].map(([transaction, why]) => this.#problem(transaction, why));
  }

  /** What is said to be kept must be there after a power cut: its journal and its bodies first. */
  async #store(info: TransactionInfoFile): Promise<void> {
    await this.options.sync();
    await this.options.store.updateTransaction(info);
  }

  async #writeMissing(): Promise<void> {
    for (const transaction of this.#missing.keys()) {
      // What is being committed ends in another note, or none.
      if (transaction.state === 'committing') continue;
      try {
        await this.#store(infoFile(transaction));
        if (this.#missing.delete(transaction))
          this.options.log(`${describeTransaction(transaction)} is kept for good now`);
      } catch (error) {
        if (this.#missing.has(transaction)) this.#missing.set(transaction, describe(error));
      }
    }
  }

  #retryLater(): void {
    if (this.#retries) return;
    this.#retries = true;
    this.options.clock.after(KEEP_RETRY_MS, () => {
      void this.save().then((problems) => {
        this.#retries = false;
        if (problems.length > 0) this.#retryLater();
      });
    });
  }

  #problem(transaction: Transaction, why: string): string {
    return `${describeTransaction(transaction)} is kept no longer than this mount: the store can't be told (${why})`;
  }
}
