/** What commands parse from their command line words: pure functions that throw usage errors. */
import { InvalidArgumentError } from 'commander';
import { SiteswapError } from '../util/errors.js';

const TRANSACTION = /^[1-9][0-9]{0,15}$/;

export function parseNatural(text: string): number {
  if (!/^(0|[1-9][0-9]{0,15})$/.test(text) || !Number.isSafeInteger(Number(text))) {
    throw new InvalidArgumentError('Not a whole number.');
  }
  return Number(text);
}

export function parsePid(text: string): number {
  const pid = parseNatural(text);
  if (pid === 0 || pid > 2 ** 22) throw new InvalidArgumentError('Not a process id.');
  return pid;
}

/** Seconds, possibly with a fraction, to milliseconds. */
export function parseSeconds(text: string): number {
  if (!/^\d{1,9}(\.\d{1,3})?$/.test(text)) throw new InvalidArgumentError('Not a number of seconds.');
  return Math.round(Number(text) * 1000);
}

/** `process`, `none`, or `lease:SECONDS`. */
export function parsePin(text: string): 'process' | 'none' | { leaseSeconds: number } {
  if (text === 'process' || text === 'none') return text;
  const lease = /^lease:([1-9]\d{0,8})$/.exec(text);
  if (!lease) throw new InvalidArgumentError('Allowed are process, lease:SECONDS and none.');
  return { leaseSeconds: Number(lease[1]) };
}

/** `[DIR] [ID]`: a lone word of digits is a transaction (a directory of that name can be written ./123). */
export function dirAndTransaction(
  first: string | undefined,
  second: string | undefined,
): { dir: string | undefined; transaction: number | undefined } {
  if (second !== undefined) {
    if (!TRANSACTION.test(second)) {
      throw new SiteswapError(
        'USAGE',
        `'${second}' is not a transaction's number`,
        'siteswap status shows the numbers.',
      );
    }
    return { dir: first, transaction: Number(second) };
  }
  if (first !== undefined && TRANSACTION.test(first)) return { dir: undefined, transaction: Number(first) };
  return { dir: first, transaction: undefined };
}

/** For an option that may be given again. */
export function collect(word: string, before: readonly string[]): string[] {
  return [...before, word];
}

/** Splits at the first `--`: what follows is somebody else's command. */
export function splitAtDashes(words: readonly string[]): { own: readonly string[]; command: readonly string[] } {
  const dashes = words.indexOf('--');
  return dashes < 0 ? { own: words, command: [] } : { own: words.slice(0, dashes), command: words.slice(dashes + 1) };
}
