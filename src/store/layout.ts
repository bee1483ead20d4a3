/**
 * The one module that knows the paths of a store.
 *
 *   format                  which layout this is, and of which lower directory
 *   lock                    flock'd while mounted
 *   HEAD                    the visible generation; replaced by rename
 *   starts                  how many scans and servers there were: each owns a range of inode numbers
 *   generations/<N>.json    who made generation N, when and why
 *   manifests/<N>.manifest  the whole tree of generation N
 *   layers/<T>/<hex>        bodies of the files that transaction T brought
 *   transactions/<T>/       info.json, journal, bodies/
 *   live/                   the live layer: byte code that readers keep; the engine makes and tidies it
 *   lower-changed           a server found that the lower differs from generation 0: the next mount compares all of it
 *   control.sock, server.log, session.json
 */
import { basename, dirname, join } from 'node:path';

/** Names that start so are half-written files: recovery deletes them. */
export const TEMPORARY_PREFIX = '.tmp-';

/** A sibling of the directory, so that it is on the same filesystem. `directory` is absolute and resolved. */
export function defaultStorePath(directory: string): string {
  return join(dirname(directory), `.${basename(directory)}.siteswap`);
}

export class StoreLayout {
  readonly format: string;
  readonly lock: string;
  readonly head: string;
  readonly starts: string;
  readonly generations: string;
  readonly manifests: string;
  readonly layers: string;
  readonly transactions: string;
  readonly live: string;
  readonly lowerChanged: string;
  readonly controlSocket: string;
  readonly serverLog: string;
  readonly session: string;

  constructor(readonly root: string) {
    this.format = join(root, 'format');
    this.lock = join(root, 'lock');
    this.head = join(root, 'HEAD');
    this.starts = join(root, 'starts');
    this.generations = join(root, 'generations');
    this.manifests = join(root, 'manifests');
    this.layers = join(root, 'layers');
    this.transactions = join(root, 'transactions');
    this.live = join(root, 'live');
    this.lowerChanged = join(root, 'lower-changed');
    this.controlSocket = join(root, 'control.sock');
    this.serverLog = join(root, 'server.log');
    this.session = join(root, 'session.json');
  }

  get directories(): string[] {
    return [this.generations, this.manifests, this.layers, this.transactions];
  }

  generation(generation: number): string {
    return join(this.generations, `${generation}.json`);
  }

  manifest(generation: number): string {
    return join(this.manifests, `${generation}.manifest`);
  }

  /** Where a manifest is written before it gets its name. */
  temporaryManifest(generation: number): string {
    return join(this.manifests, `${TEMPORARY_PREFIX}${generation}.manifest`);
  }

  layer(layer: number): string {
    return join(this.layers, String(layer));
  }

  transaction(transaction: number): string {
    return join(this.transactions, String(transaction));
  }

  transactionInfo(transaction: number): string {
    return join(this.transaction(transaction), 'info.json');
  }

  transactionBodies(transaction: number): string {
    return join(this.transaction(transaction), 'bodies');
  }
}

/** '12.manifest' with suffix '.manifest' → 12; null for any other name. */
export function numberOfName(name: string, suffix: string): number | null {
  if (!name.endsWith(suffix)) return null;
  const digits = name.slice(0, name.length - suffix.length);
  return /^(0|[1-9][0-9]{0,15})$/.test(digits) && Number.isSafeInteger(Number(digits)) ? Number(digits) : null;
}
