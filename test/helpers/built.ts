/**
 * What tests start as processes, compiled: the command line as its users run it, from dist/, and helpers of the tests'
 * own. Importing this brings both up to date, or throws: a test run by hand never tests what src/ was a while ago.
 * (Started from the sources, through tsx, each process takes four times as long: 0.37 s of CPU against 0.09 s.)
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Of the package. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

const { status, error, stderr } = spawnSync(join(ROOT, 'mount-scripts/build-ts'), ['--for=test'], { encoding: 'utf8' });
if (error || status !== 0) throw new Error(`mount-scripts/build-ts failed: ${error?.message ?? ''}${stderr}`);

/** The command line, as words for spawn. */
export const SITESWAP: readonly [string, string] = [process.execPath, join(ROOT, 'dist/cli/main.js')];

/** The compiled form of a program in this folder. */
export function testProgram(name: 'commit-and-crash' | 'engine-host' | 'list-tree' | 'run-sandboxed'): string {
  return join(ROOT, 'test/build/test/helpers', `${name}.js`);
}
