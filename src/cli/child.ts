/** A command of the user's, run as a child of `run` and `shell`, with the exit codes that a shell would give. */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { describe, systemCode } from '../util/errors.js';
import { tell } from './output.js';

const NOT_FOUND = 127;
const NOT_EXECUTABLE = 126;

/**
 * Resolves with its exit code, 128 + n when signal n killed it. Signals that are meant to end it are passed on, and its end
 * decides. A terminal sends its signals to the child too: there it is enough that they don't end this process.
 */
export function runChild(
  [file, ...args]: readonly string[],
  { cwd, env }: { cwd?: string; env: NodeJS.ProcessEnv },
): Promise<number> {
  const child = spawn(file!, args, { cwd, stdio: 'inherit', env: { ...process.env, ...env } });
  const fromTerminal = process.stdin.isTTY ? ['SIGINT', 'SIGQUIT'] : [];
  const pass = (signal: NodeJS.Signals): void => {
    if (!fromTerminal.includes(signal)) child.kill(signal);
  };
  for (const signal of ['SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, pass);
  return new Promise((resolve) => {
    child.once('error', (error) => {
      tell(`siteswap: ${file}: ${systemCode(error) === 'ENOENT' ? 'command not found' : describe(error)}`);
      resolve(systemCode(error) === 'ENOENT' ? NOT_FOUND : NOT_EXECUTABLE);
    });
    child.once('exit', (code, signal) => resolve(signal === null ? code! : 128 + constants.signals[signal]));
  });
}
