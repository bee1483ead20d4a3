/**
 * The file `starts`: numbers that are never given out twice, whatever happens.
 *
 * Start n owns the inode numbers [n * INO_SPAN, (n + 1) * INO_SPAN) and the transaction numbers
 * [n * TRANSACTION_SPAN, (n + 1) * TRANSACTION_SPAN), so neither needs to be saved as it is used.
 */
import { INO_SPAN, MAX_STARTS, TRANSACTION_SPAN } from '../util/limits.js';
import { writeFileAtomic } from './atomic-fs.js';
import type { StoreLayout } from './layout.js';
import { damaged, parseNumberLine, readText } from './read.js';

export interface Start {
  number: number;
  firstIno: bigint;
  inoCount: bigint;
  firstTransaction: number;
}

/** The number that `takeStart` would take. */
export async function nextStart(layout: StoreLayout): Promise<number> {
  const text = await readText(layout.starts);
  const number = (text === null ? 0 : parseNumberLine(layout.starts, text)) + 1;
  if (number >= MAX_STARTS) throw damaged(layout.starts, 'its number is too large');
  return number;
}

/** Takes the next number; durable before it returns. */
export async function takeStart(layout: StoreLayout): Promise<Start> {
  const number = await nextStart(layout);
  await writeFileAtomic(layout.starts, `${number}\n`);
  return {
    number,
    firstIno: BigInt(number) * INO_SPAN,
    inoCount: INO_SPAN,
    firstTransaction: number * TRANSACTION_SPAN,
  };
}

/** Numbers for transactions: those of the server's start, then those of starts taken for nothing else. */
export class TransactionNumbers {
  #next: number;
  #end: number;
  #refill: Promise<void> | null = null;

  constructor(
    start: Start,
    private readonly takeAnother: () => Promise<Start>,
  ) {
    this.#next = start.firstTransaction;
    this.#end = this.#next + TRANSACTION_SPAN;
  }

  async next(): Promise<number> {
    while (this.#next >= this.#end) {
      this.#refill ??= this.#takeStart().finally(() => (this.#refill = null));
      await this.#refill;
    }
    return this.#next++;
  }

  async #takeStart(): Promise<void> {
    const { firstTransaction } = await this.takeAnother();
    this.#next = firstTransaction;
    this.#end = firstTransaction + TRANSACTION_SPAN;
  }
}
