/**
 * `siteswap shell`: a shell (or a command) that sees the tree of a refused or staged transaction where everybody else sees
 * HEAD. It may change nothing. Exits with its exit code.
 */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import type { Command } from 'commander';
import { describe, systemCode } from '../../util/errors.js';
import { dirAndTransaction } from '../arguments.js';
import { tell } from '../output.js';
import { ask, mounted } from '../target.js';

const NOT_FOUND = 127;
const NOT_EXECUTABLE = 126;

/** `command`: the words after `--`, which commander never sees. */
export function addShell(program: Command, command: readonly string[]): void {
  program
    .command('shell')
    .description('a shell that sees the tree of a refused or staged transaction, read-only')
    .argument('[DIR]', 'the mount; default: the active environment')
    .argument('[ID]', 'the transaction; may be left out when only one is kept')
    .usage('[DIR] [ID] [-- CMD…]')
    .action(async (first: string | undefined, second: string | undefined) => {
      const { dir, transaction } = dirAndTransaction(first, second);
      const { store } = await mounted(dir);
      const params = { ...(transaction !== undefined && { transaction }), pid: process.pid };
      const seen = await ask(store, 'observe', params);
      if (command.length === 0) {
        tell(`This shell sees transaction ${seen.transaction} in ${seen.mountpoint}, read-only. End it with \`exit\`.`);
      }
      process.exitCode = await runIn(seen.mountpoint, seen.transaction, command);
    });
}

function runIn(directory: string, transaction: number, command: readonly string[]): Promise<number> {
  const [file, ...args] = command.length > 0 ? command : [process.env['SHELL'] || '/bin/sh'];
  const child = spawn(file!, args, {
    cwd: directory,
    stdio: 'inherit',
    env: { ...process.env, SITESWAP_SHELL: String(transaction) },
  });
  // A terminal sends its signals to the shell too.
  for (const signal of ['SIGINT', 'SIGQUIT'] as const) process.on(signal, () => {});
  return new Promise((resolve) => {
    child.once('error', (error) => {
      tell(`siteswap: ${file}: ${systemCode(error) === 'ENOENT' ? 'command not found' : describe(error)}`);
      resolve(systemCode(error) === 'ENOENT' ? NOT_FOUND : NOT_EXECUTABLE);
    });
    child.once('exit', (code, signal) => resolve(signal === null ? code! : 128 + constants.signals[signal]));
  });
}
