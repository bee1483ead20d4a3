/**
 * `siteswap shell`: a shell (or a command) that sees the tree of a refused or staged transaction where everybody else sees
 * HEAD. It may change nothing. Exits with its exit code.
 */
import type { Command } from 'commander';
import { dirAndTransaction } from '../arguments.js';
import { runChild } from '../child.js';
import { tell } from '../output.js';
import { ask, mounted } from '../target.js';

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
      const words = command.length > 0 ? command : [process.env['SHELL'] || '/bin/sh'];
      const env = { SITESWAP_SHELL: String(seen.transaction) };
      process.exitCode = await runChild(words, { cwd: seen.mountpoint, env });
    });
}
