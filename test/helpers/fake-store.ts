/** Stores in temporary directories, with a generation 0 that no filesystem was scanned for. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { Store } from '../../src/store/store.js';

export const LOWER = { path: '/venv/site-packages', dev: 1, ino: 42 };

export function temporaryDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'siteswap-unit-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export async function openStore(root: string): Promise<Store> {
  const store = await Store.open(root, LOWER, () => true);
  if (store.scannedHead === null) {
    writeFileSync(store.layout.temporaryManifest(0), 'manifest 0\n');
    await store.writeBase(3, 1_600_000_000_000_000_000n, 1);
  }
  return store;
}

/** Every file and directory below, sorted. */
export async function tree(directory: string): Promise<string[]> {
  return (await readdir(directory, { recursive: true })).sort();
}
