/** The file `HEAD`: the number of the visible generation. Replacing it is the moment of a commit. */
import { writeFileAtomic } from './atomic-fs.js';
import { listGenerations } from './generation.js';
import type { StoreLayout } from './layout.js';
import { damaged, parseNumberLine, readText } from './read.js';

/** Null in a store that was never scanned. */
export async function readHead(layout: StoreLayout): Promise<number | null> {
  const text = await readText(layout.head);
  if (text !== null) return parseNumberLine(layout.head, text);
  if ((await listGenerations(layout)).some((number) => number > 0)) throw damaged(layout.head, 'it is missing');
  return null;
}

export async function writeHead(layout: StoreLayout, generation: number): Promise<void> {
  await writeFileAtomic(layout.head, `${generation}\n`);
}
