/** Real packages, for tests that can do without where no index is reachable. Uses the user's own pip configuration. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { runProgram } from './venv.js';

const TIMEOUT_MS = 5 * 60_000;

function environment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(PYTHON|VIRTUAL_ENV$|PIP_NO_INDEX$)/.test(name));
  return { ...Object.fromEntries(kept), PIP_DISABLE_PIP_VERSION_CHECK: '1', PIP_ROOT_USER_ACTION: 'ignore' };
}

function pip(args: readonly string[], python = 'python3'): Promise<boolean> {
  const quick = ['--retries', '1', '--timeout', '20'];
  return runProgram(python, ['-m', 'pip', ...args, ...quick], { env: environment(), timeoutMs: TIMEOUT_MS }).then(
    ({ code }) => code === 0,
    () => false,
  );
}

/** Puts a tool into a directory of its own, which is given back; null when no index has it. */
export async function installFromIndex(work: string, name: string): Promise<string | null> {
  const target = join(work, 'tools');
  return (await pip(['install', '--quiet', '--prefix', target, name])) ? target : null;
}

/** Wheels of these requirements with all that they need, in a folder for `--find-links`; null when no index has them. */
export async function downloadFromIndex(work: string, requirements: readonly string[]): Promise<string | null> {
  const folder = join(work, 'downloads');
  mkdirSync(folder, { recursive: true });
  for (const requirement of requirements) {
    if (!(await pip(['download', '--quiet', '--only-binary', ':all:', '--dest', folder, requirement]))) return null;
  }
  return folder;
}

/** Wheels of these requirements with all that they need, into the environment of `python`; false when no index has them. */
export function installWheels(python: string, requirements: readonly string[]): Promise<boolean> {
  return pip(['install', '--quiet', '--only-binary', ':all:', ...requirements], python);
}
