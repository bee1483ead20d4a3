/**
 * Finds the addon: a prebuilt one of this platform, else the one built in this package. Called by fuse/native-backend.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { describe, SiteswapError } from '../util/errors.js';
import { compiledPaths, packageRoot } from '../util/package-root.js';
import type { NativeBinding } from './binding.js';

export function loadBinding(root = packageRoot()): NativeBinding {
  const require = createRequire(import.meta.url);
  const tried: string[] = [];
  for (const path of compiledPaths('siteswap.node', root)) {
    if (!existsSync(path)) {
      tried.push(`${path} (missing)`);
      continue;
    }
    try {
      return require(path) as NativeBinding;
    } catch (error) {
      tried.push(`${path} (${describe(error)})`);
    }
  }
  throw new SiteswapError(
    'ADDON_MISSING',
    `the native addon can't be loaded; tried ${tried.join(', ')}`,
    'Build it with `npm run build:native` (needs a C++20 compiler and Python 3).',
  );
}
