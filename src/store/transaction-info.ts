/** `transactions/<T>/info.json`: what must be known about a transaction after a restart. */
import { readdir } from 'node:fs/promises';
import * as v from 'valibot';
import { writeFileAtomic } from './atomic-fs.js';
import { numberOfName, type StoreLayout } from './layout.js';
import { damaged, parseJson, readText } from './read.js';

const natural = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

const schema = v.object({
  id: natural,
  /** `open` is dropped by recovery; `staged` (ended well, waits for `commit`) and `refused` are kept. */
  state: v.picklist(['open', 'staged', 'refused']),
  base: natural,
  command: v.array(v.string()),
  pid: natural,
  uid: natural,
  gid: natural,
  /** Why it was refused. */
  reason: v.nullable(v.string()),
});

export type TransactionInfoFile = v.InferOutput<typeof schema>;

export async function writeTransactionInfo(layout: StoreLayout, info: TransactionInfoFile): Promise<void> {
  await writeFileAtomic(layout.transactionInfo(info.id), `${JSON.stringify(v.parse(schema, info), null, 2)}\n`);
}

/** Null when there is none: the transaction was only just begun. */
export async function readTransactionInfo(layout: StoreLayout, id: number): Promise<TransactionInfoFile | null> {
  const path = layout.transactionInfo(id);
  const text = await readText(path);
  if (text === null) return null;
  const info = parseJson(path, text, schema);
  if (info.id !== id) throw damaged(path, `it describes transaction ${info.id}`);
  return info;
}

export async function listTransactions(layout: StoreLayout): Promise<number[]> {
  const numbers = (await readdir(layout.transactions)).map((name) => numberOfName(name, ''));
  return numbers.filter((number) => number !== null).sort((a, b) => a - b);
}
