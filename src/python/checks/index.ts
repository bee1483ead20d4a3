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
import { CHECK_NAMES, type Check, type CheckName } from './check.js';

const CHECK_OF: Record<CheckName, Check> = {
  metadata,
  'duplicate-metadata': duplicateMetadata,
  'orphan-metadata': orphanMetadata,
  dependencies,
  conflicts,
  unowned,
  pth,
  'egg-info': eggInfo,
  cruft,
  record,
};

export const CHECKS: readonly Check[] = CHECK_NAMES.map((name) => CHECK_OF[name]);
