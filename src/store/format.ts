/** The file `format`: read before anything else, so that a store of another version is never misread or changed. */
import * as v from 'valibot';
import { SiteswapError } from '../util/errors.js';
import { writeFileAtomic } from './atomic-fs.js';
import type { StoreLayout } from './layout.js';
import { damaged, parseJson, readText } from './read.js';

const FORMAT = 'siteswap-store';
const VERSION = 1;
/** A flag is a property of the store that a program must know to work with it. None so far. */
const KNOWN_FLAGS: ReadonlySet<string> = new Set();

/** Only this much is fixed for every version there will ever be. */
const headerSchema = v.looseObject({ format: v.string(), version: v.number(), flags: v.array(v.string()) });

const schema = v.object({
  lower: v.object({
    path: v.string(),
    /** Device numbers may differ after a reboot; with the inode number they tell what was mounted over. */
    dev: v.number(),
    ino: v.number(),
  }),
});

export type Lower = v.InferOutput<typeof schema>['lower'];

/** Null when the store has no `format` (it is new). */
export async function readFormat(layout: StoreLayout): Promise<Lower | null> {
  const text = await readText(layout.format);
  if (text === null) return null;
  const header = parseJson(layout.format, text, headerSchema);
  if (header.format !== FORMAT) throw damaged(layout.format, 'it is not the format file of a siteswap store');
  const unknown = header.flags.filter((flag) => !KNOWN_FLAGS.has(flag));
  if (header.version !== VERSION || unknown.length > 0) {
    const what = header.version !== VERSION ? `version ${header.version}` : `flag ${unknown.join(', ')}`;
    throw new SiteswapError(
      'STORE_VERSION',
      `the store ${layout.root} has ${what}, and this siteswap knows version ${VERSION}`,
      'Use the siteswap that wrote it, or another store with --store.',
    );
  }
  return parseJson(layout.format, text, schema).lower;
}

export async function writeFormat(layout: StoreLayout, lower: Lower): Promise<void> {
  await writeFileAtomic(layout.format, `${JSON.stringify({ format: FORMAT, version: VERSION, flags: [], lower })}\n`);
}
