/**
 * What is verified before a commit: the defaults, and `siteswap.toml` beside the store, which goes before them; the command
 * line goes before it.
 */
import { readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { CHECK_NAMES } from '../python/checks/check.js';
import { describe, SiteswapError, systemCode } from '../util/errors.js';
import type { VerifySettings } from './keeper-protocol.js';

export const CONFIG_NAME = 'siteswap.toml';
export const LEVELS = ['none', 'record', 'import', 'deep'] as const;
/** Everything that can be switched off by name. */
export const ALL_CHECKS: readonly string[] = [...CHECK_NAMES, 'interpreter', 'import'];

export const DEFAULT_SETTINGS: VerifySettings = {
  level: 'import',
  commands: [],
  skip: [],
  limits: { importMs: 60_000, commandMs: 600_000, memoryBytes: 4 * 2 ** 30, processes: 256 },
};

export function configPath(storePath: string): string {
  return join(dirname(storePath), CONFIG_NAME);
}

/** The defaults, when there is no such file. */
export async function readConfig(storePath: string): Promise<VerifySettings> {
  const path = configPath(storePath);
  let text: string;
  try {
    // Its commands run as whoever installs: it must be nobody else's to write.
    const { uid, mode } = statSync(path);
    if ((uid !== 0 && uid !== process.geteuid?.()) || (mode & 0o022) !== 0) {
      throw badConfig(path, 'somebody else may write to it', 'Make it your own (chown, chmod go-w), or remove it.');
    }
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return DEFAULT_SETTINGS;
    if (error instanceof SiteswapError) throw error;
    throw badConfig(path, describe(error));
  }
  const { parseConfig } = await import('./config-file.js');
  return parseConfig(path, text);
}

export function badConfig(path: string, what: string, hint = 'See README.md for all keys.'): SiteswapError {
  return new SiteswapError('USAGE', `${path}: ${what}`, hint);
}
