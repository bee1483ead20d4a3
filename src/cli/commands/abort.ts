/** `siteswap abort`: drops a transaction; nothing of it was or will be visible. */
import type { Command } from 'commander';
import { dirAndTransaction } from '../arguments.js';
import { print, printJson } from '../output.js';
import { ask, mounted } from '../target.js';

export function addAbort(program: Command): void {
  program
    .command('abort')
    .description('drop a transaction and everything that was written in it')
    .argument('[DIR]', 'the mount; default: the active environment')
    .argument('[ID]', 'the transaction; may be left out when there is only one')
    .option('--json', 'print JSON')
    .action(async (first: string | undefined, second: string | undefined, options: { json?: true }) => {
      const { dir, transaction } = dirAndTransaction(first, second);
      const { store } = await mounted(dir);
      const result = await ask(store, 'abort', transaction === undefined ? {} : { transaction });
      if (options.json) printJson(result);
      else print(String(result.transaction));
    });
}
