/** For tests of verification: packages that pip installs into a mounted environment, and what became of the install. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import type { MountedVenv } from './mounted-venv.js';
import { PIP_INSTALL } from './versioned-package.js';
import { runProgram, type RunResult, type Venv } from './venv.js';
import { buildWheel, type WheelOptions } from './wheel.js';

const INSTALL = [...PIP_INSTALL, '--no-compile'];
/** As documented: CMD succeeded, and its result was refused. */
export const RUN_REFUSED = 120;

/** A package NAME whose `VERSION` can be imported. `more`: further code of its `__init__.py`. */
export function wheelOf(
  work: string,
  name: string,
  version: string,
  { more = '', ...options }: Partial<WheelOptions> & { more?: string } = {},
): string {
  const files = { [`${name}/__init__.py`]: `VERSION = '${version}'\n${more}`, ...options.files };
  return buildWheel({ name, version, dir: join(work, 'wheels'), ...options, files });
}

/** Before the mount. */
export function installedBefore(...wheels: ((work: string) => string)[]): (venv: Venv, work: string) => Promise<void> {
  return async (venv, work) => {
    const { code, stderr } = await venv.run('pip', [...INSTALL, ...wheels.map((each) => each(work))]);
    assert.equal(code, 0, stderr);
  };
}

/** Before the mount: what `siteswap.toml` says. */
export function writeConfig({ sitePackages }: Venv, text: string): void {
  writeFileSync(join(sitePackages, '..', 'siteswap.toml'), text, { mode: 0o644 });
}

/** `siteswap run OPTIONS -- pip install WHEEL`, and then `script`, for sh, in site-packages. */
export function runInstall(
  mounted: MountedVenv,
  wheel: string,
  { script = '', options = [] }: { script?: string; options?: readonly string[] } = {},
): Promise<RunResult> {
  const command = ['-m', 'pip', ...INSTALL, wheel];
  const words =
    script === ''
      ? [mounted.python, ...command]
      : ['sh', '-c', `"$0" "$@" && cd '${mounted.site}' && ${script}`, mounted.python, ...command];
  return mounted.trySiteswap(['run', mounted.site, ...options, '--', ...words]);
}

/** The transaction's number. */
export function assertRunRefused({ code, stdout, stderr }: RunResult, why: RegExp): number {
  assert.equal(code, RUN_REFUSED, stdout + stderr);
  assert.match(stderr, why);
  const [, id] = /^error: transaction (\d+) \(/m.exec(stderr) ?? [];
  assert.ok(id, stderr);
  assert.match(
    stderr,
    new RegExp(`^hint: \`siteswap shell \\S+ ${id}\` shows it; .*verify.*commit --force.*abort`, 'm'),
  );
  return Number(id);
}

export function assertCommitted({ code, stdout, stderr }: RunResult): void {
  assert.equal(code, 0, stdout + stderr);
}

/** What a fresh interpreter sees; it leaves no bytecode. */
export async function valueOf(mounted: MountedVenv, module: string, expression = 'VERSION'): Promise<string> {
  const code = `import ${module}\nprint(${module}.${expression})`;
  return (await mounted.must(mounted.python, '-B', '-c', code)).trim();
}

/** A new terminal has no columns, in which nothing is shown. */
const SIZED = 'stty cols 120 rows 40; exec "$@"';

/** Runs a command on a terminal of its own; what the terminal has shown when it has ended. */
export async function onTerminal(command: readonly string[], env: NodeJS.ProcessEnv): Promise<string> {
  const script = 'import os, pty, sys\nsys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))\n';
  const { stdout, stderr } = await runProgram('python3', ['-c', script, 'sh', '-c', SIZED, 'sh', ...command], { env });
  assert.equal(stderr, '');
  return stripVTControlCharacters(stdout).replaceAll('\r', '');
}

/** Numbers of processes that have this in their command line. */
export async function processesWith(words: string): Promise<string[]> {
  const { stdout } = await runProgram('pgrep', ['-f', '--', words]);
  return stdout.split('\n').filter((line) => line !== '');
}

export function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
}
