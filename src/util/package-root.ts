/**
 * Where this package lies: the nearest directory with a package.json, from src/ and from dist/ alike; and what was compiled
 * for it.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export function packageRoot(): string {
  const from = dirname(fileURLToPath(import.meta.url));
  for (let directory = from; ; directory = dirname(directory)) {
    if (existsSync(join(directory, 'package.json'))) return directory;
    if (directory === dirname(directory)) throw new Error(`no package.json above ${from}`);
  }
}

/** An entry point of ours beside the module `from`: compiled, or as a source. `name` has no suffix. */
export function scriptAt(name: string, from: string): string {
  const built = fileURLToPath(new URL(`${name}.js`, from));
  return existsSync(built) ? built : fileURLToPath(new URL(`${name}.ts`, from));
}

/** 'glibc' or 'musl': what was compiled for one does not run with the other. */
function libc(): string {
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  return header.glibcVersionRuntime ? 'glibc' : 'musl';
}

/** Where a compiled file may lie, best first: a prebuilt one of this platform, the one built in this package. */
export function compiledPaths(name: string, root = packageRoot()): string[] {
  const prebuilds = join(root, 'prebuilds');
  const local = join(root, 'native', 'build', 'Release', name);
  if (!existsSync(prebuilds)) return [local];
  return [join(prebuilds, `${process.platform}-${process.arch}-${libc()}`, name), local];
}

export function packageVersion(): string {
  return (JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string }).version;
}
