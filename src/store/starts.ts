/**
 * The file `starts`: numbers that are never given out twice, whatever happens.
 *
 * Start n owns the inode numbers [n * INO_SPAN, (n + 1) * INO_SPAN) and the transaction numbers
 * (n * TRANSACTION_SPAN, (n + 1) * TRANSACTION_SPAN), so neither needs to be saved as it is used.
 */
import { INO_SPAN, TRANSACTION_SPAN } from '../util/limits.js';
import { writeFileAtomic } from './atomic-fs.js';
import type { StoreLayout } from './layout.js';
import { damaged, parseNumberLine, readText } from './read.js';

export interface Start {
  number: number;
  firstIno: bigint;
  inoCount: bigint;
  /** Transactions are this number plus 1, 2, … */
  transactionBase: number;
}

/** Takes the next number; durable before it returns. */
export async function takeStart(layout: StoreLayout): Promise<Start> {
  const text = await readText(layout.starts);
  const number = (text === null ? 0 : parseNumberLine(layout.starts, text)) + 1;
  // INO_SPAN * 2^31 is the end of what fits into 63 bits.
  if (number >= 2 ** 31) throw damaged(layout.starts, 'its number is too large');
  await writeFileAtomic(layout.starts, `${number}\n`);
  return {
    number,
    firstIno: BigInt(number) * INO_SPAN,
    inoCount: INO_SPAN,
    transactionBase: number * TRANSACTION_SPAN,
  };
}
