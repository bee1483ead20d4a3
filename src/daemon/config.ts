/** What is verified before a commit, unless it is said otherwise, and where it may be said: see config-file. */
import { dirname, join } from 'node:path';
import { CHECK_NAMES } from '../python/checks/check.js';
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
