/**
 * Finds the addon: a prebuilt one of this platform, else the one built in this package. Called by fuse/native-backend.
 *
 * Works from src/ (through tsx) and from dist/: the package's root is the nearest directory with a package.json.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, SiteswapError } from '../util/errors.js';
import type { NativeBinding } from './binding.js';

export function packageRoot(from = dirname(fileURLToPath(import.meta.url))): string {
  for (let directory = from; ; directory = dirname(directory)) {
    if (existsSync(join(directory, 'package.json'))) return directory;
    if (directory === dirname(directory)) throw new Error(`no package.json above ${from}`);
  }
}

/** 'glibc' or 'musl': addons for one do not load with the other. */
function libc(): string {
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  return header.glibcVersionRuntime ? 'glibc' : 'musl';
}

export function addonCandidates(root: string): string[] {
  return [
    join(root, 'prebuilds', `${process.platform}-${process.arch}-${libc()}`, 'siteswap.node'),
    join(root, 'native', 'build', 'Release', 'siteswap.node'),
  ];
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
