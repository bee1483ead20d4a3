/** All checks of files, in the order in which they run: what is cheap and says most comes first. Called by ../verify.ts. */
import { conflicts } from './conflicts.js';
import { cruft } from './cruft.js';
import { dependencies } from './dependencies.js';
import { duplicateMetadata } from './duplicate-metadata.js';
import { eggInfo } from './egg-info.js';
import { metadata } from './metadata.js';
import { orphanMetadata } from './orphan-metadata.js';
import { pth } from './pth.js';
import { record } from './record.js';
import { unowned } from './unowned.js';
import type { Check, CheckName } from './check.js';

export const CHECKS: readonly Check[] = [
  metadata,
  duplicateMetadata,
  orphanMetadata,
  dependencies,
  conflicts,
  unowned,
  pth,
  eggInfo,
  cruft,
  record,
];

export const CHECK_NAMES: readonly CheckName[] = CHECKS.map(({ name }) => name);
