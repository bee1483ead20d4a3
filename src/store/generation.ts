/** `generations/<N>.json`: who made a generation, when and why. Written once, before HEAD names it; never changed. */
import { readdir } from 'node:fs/promises';
import * as v from 'valibot';
import { writeFileAtomic } from './atomic-fs.js';
import { numberOfName, type StoreLayout } from './layout.js';
import { damaged, parseJson, readText } from './read.js';

const natural = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

const schema = v.object({
  generation: natural,
  parent: v.nullable(natural),
  createdMs: v.number(),
  reason: v.picklist(['base', 'commit', 'rollback']),
  transaction: v.nullable(natural),
  command: v.array(v.string()),
  uid: v.nullable(natural),
  /** The layer that this generation brought: `layers/<layer>`. */
  layer: v.nullable(natural),
  /** Nanoseconds. No directory time of a later generation may be at or below it. */
  maxMtimeNs: v.pipe(v.string(), v.regex(/^-?[0-9]{1,19}$/)),
  entries: natural,
  packages: v.array(v.object({ name: v.string(), from: v.nullable(v.string()), to: v.nullable(v.string()) })),
  /** What verification found and let pass. Generations of before it was told have none. */
  warnings: v.optional(v.array(v.string()), []),
});

export type Generation = v.InferOutput<typeof schema>;
export type PackageChange = Generation['packages'][number];

export async function readGeneration(layout: StoreLayout, number: number): Promise<Generation> {
  const path = layout.generation(number);
  const text = await readText(path);
  if (text === null) throw damaged(path, 'it is missing');
  const generation = parseJson(path, text, schema);
  if (generation.generation !== number) throw damaged(path, `it describes generation ${generation.generation}`);
  if (generation.parent !== null && generation.parent >= number) throw damaged(path, 'its parent is not older');
  return generation;
}

export async function writeGeneration(layout: StoreLayout, generation: Generation): Promise<void> {
  await writeFileAtomic(
    layout.generation(generation.generation),
    `${JSON.stringify(v.parse(schema, generation), null, 2)}\n`,
  );
}

/** Newest first, from `head` back to the base. */
export async function readHistory(layout: StoreLayout, head: number, limit = Infinity): Promise<Generation[]> {
  const history: Generation[] = [];
  for (let next: number | null = head; next !== null && history.length < limit;) {
    const generation: Generation = await readGeneration(layout, next);
    history.push(generation);
    next = generation.parent;
  }
  return history;
}

export async function listGenerations(layout: StoreLayout): Promise<number[]> {
  const numbers = (await readdir(layout.generations)).map((name) => numberOfName(name, '.json'));
  return numbers.filter((number) => number !== null).sort((a, b) => a - b);
}
