/** Reading small files of the store: whatever is wrong with one becomes a clear STORE_DAMAGED error. */
import { readFile } from 'node:fs/promises';
import * as v from 'valibot';
import { describe, SiteswapError, systemCode } from '../util/errors.js';

const HINT = 'Unmount and start again from the original directory with `siteswap unmount --purge DIR`.';

export function damaged(path: string, what: string, cause?: unknown): SiteswapError {
  return new SiteswapError('STORE_DAMAGED', `${path} is damaged: ${what}`, HINT, { cause });
}

/** By what the addon says of it, which begins with its path. */
export function damagedManifest(path: string, error: unknown): SiteswapError {
  return damaged(path, describe(error).replace(`${path} `, ''), error);
}

/** Null when there is no such file. */
export async function readText(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    throw error;
  }
}

export function parseJson<S extends v.GenericSchema>(path: string, text: string, schema: S): v.InferOutput<S> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw damaged(path, `it is no JSON (${describe(error)})`, error);
  }
  const result = v.safeParse(schema, value);
  if (!result.success) {
    const issue = result.issues[0];
    throw damaged(path, `${v.getDotPath(issue) ?? 'it'}: ${issue.message}`);
  }
  return result.output;
}

/** A file that holds one number and a newline. */
export function parseNumberLine(path: string, text: string): number {
  const number = /^(0|[1-9][0-9]*)\n$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(number)) throw damaged(path, 'it does not hold one number');
  return number;
}
