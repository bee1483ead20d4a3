/**
 * Finds the addon: a prebuilt one of this platform, else the one built in this package. Called by fuse/native-backend.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { describe, SiteswapError } from '../util/errors.js';
import { packageRoot } from '../util/package-root.js';
import type { NativeBinding } from './binding.js';

/** 'glibc' or 'musl': addons for one do not load with the other. */
function libc(): string {
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  return header.glibcVersionRuntime ? 'glibc' : 'musl';
}

export function addonCandidates(root: string): string[] {
  const prebuilds = join(root, 'prebuilds');
  const local = join(root, 'native', 'build', 'Release', 'siteswap.node');
  if (!existsSync(prebuilds)) return [local];
  return [join(prebuilds, `${process.platform}-${process.arch}-${libc()}`, 'siteswap.node'), local];
}

export function loadBinding(root = packageRoot()): NativeBinding {
  const require = createRequire(import.meta.url);
  const tried: string[] = [];
  for (const path of addonCandidates(root)) {
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
