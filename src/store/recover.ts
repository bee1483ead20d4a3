/**
 * Brings a store to a state that a commit or an abort could have left, after any kind of stop.
 *
 * Everything is decided before the first deletion, from HEAD alone: a generation that HEAD's history names is kept
 * with its manifest and its layer; a transaction that is `refused` or `staged` is kept unless it was committed after
 * all; the rest is what a commit or a transaction cut short left behind. Running it again changes nothing more.
 * Called by the keeper, with the store locked, before anything else uses it.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { moveDurable, remove } from './atomic-fs.js';
import { crashPoint } from './crash-point.js';
import { readHistory } from './generation.js';
import { numberOfName, TEMPORARY_PREFIX, type StoreLayout } from './layout.js';
import { listTransactions, readTransactionInfo } from './transaction-info.js';
import { SiteswapError } from '../util/errors.js';

export interface Recovery {
  /** Moved back: bodies of a kept transaction whose commit was cut short. */
  restore: { from: string; to: string }[];
  delete: string[];
}

export async function recover(layout: StoreLayout, head: number): Promise<Recovery> {
  const plan = await planRecovery(layout, head);
  crashPoint('recover');
  for (const { from, to } of plan.restore) await moveDurable(from, to);
  crashPoint('recover-restored');
  for (const path of plan.delete) {
    await remove(path);
    crashPoint('recover-deleted-one');
  }
  return plan;
}

async function planRecovery(layout: StoreLayout, head: number): Promise<Recovery> {
  const history = await readHistory(layout, head);
  const layers = new Set(history.map((generation) => generation.layer));
  const committed = new Set(history.map((generation) => generation.transaction));
  const plan: Recovery = { restore: [], delete: [] };

  const kept = new Set<number>();
  for (const id of await listTransactions(layout)) {
    if (!committed.has(id) && (await isKept(layout, id))) kept.add(id);
    else plan.delete.push(layout.transaction(id));
  }
  for (const name of await readdir(layout.layers)) {
    const layer = numberOfName(name, '');
    if (layer === null || layers.has(layer)) continue;
    if (kept.has(layer)) plan.restore.push({ from: layout.layer(layer), to: layout.transactionBodies(layer) });
    else plan.delete.push(layout.layer(layer));
  }
  const aboveHead = (name: string, suffix: string): boolean => (numberOfName(name, suffix) ?? -1) > head;
  for (const name of await readdir(layout.manifests)) {
    if (aboveHead(name, '.manifest')) plan.delete.push(join(layout.manifests, name));
  }
  for (const name of await readdir(layout.generations)) {
    if (aboveHead(name, '.json')) plan.delete.push(join(layout.generations, name));
  }
  for (const directory of [layout.root, ...layout.directories, ...[...kept].map((id) => layout.transaction(id))]) {
    for (const name of await readdir(directory)) {
      if (name.startsWith(TEMPORARY_PREFIX)) plan.delete.push(join(directory, name));
    }
  }
  return plan;
}

async function isKept(layout: StoreLayout, id: number): Promise<boolean> {
  try {
    const info = await readTransactionInfo(layout, id);
    return info !== null && info.state !== 'open';
  } catch (error) {
    // Its info.json is replaced by rename, so damage is not what a crash leaves: better kept than lost.
    if (error instanceof SiteswapError && error.code === 'STORE_DAMAGED') return true;
    throw error;
  }
}
